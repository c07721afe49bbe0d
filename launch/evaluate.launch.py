"""Play a bag to the segmenter in real time, record its labels, and compare them with replays of the same bag.

    ros2 launch tttkd_ros evaluate.launch.py bag:=drive out:=live rig:=config/rigs/demo.yaml

Processes start one after the other: the segmenter; the recorder, when the segmenter can adapt; the player, when the
recorder is ready. When the bag is played and no more labels come, the segmenter is ended, and `tttkd evaluate` scores
the recording beside lossless replays, frozen and with the segmenter's settings. All results are in the folder `out`. If
a process fails, all are ended.
"""

from __future__ import annotations

import json
import math
import runpy
import shutil
import subprocess
from importlib.metadata import entry_points
from pathlib import Path

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit, OnProcessIO
from launch.events.process import ShutdownProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription

HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "config"
ARGUMENT_TOOLS = runpy.run_path(str(HERE / "arguments.py"))
NOT_GIVEN = ARGUMENT_TOOLS["NOT_GIVEN"]
# From the PATH: the environment that has the package's requirements; `ros2` itself may run in another one.
PYTHON = ("python3", "-u", "-m")
LABELLED, ADAPTATION = "/segmenter/points_labeled", "/segmenter/adaptation"
LINGER = 5  # seconds of silence after the bag that end the recording
END_TIMEOUT = "30"  # seconds for the segmenter to end before it gets a stronger signal
PLAY_DELAY = 3  # seconds for the segmenter to find the publishers of `ros2 bag play`

ARGUMENTS = {
    "out": ("live", "folder for the recording and the evaluation"),
    "rate": ("1.0", "times real time"),
    "player": ("auto", "ros2: `ros2 bag play`; own: tttkd_ros.tools.player; auto: ros2 if it is installed"),
    "params_file": (str(CONFIG / "segment.yaml"), "the segmenter's parameter file"),
    **{name: (NOT_GIVEN, description) for name, description in ARGUMENT_TOOLS["NODE_ARGUMENTS"].items()},
    "points": (NOT_GIVEN, "topic of the LiDAR's clouds; by default the preset's, or found in the bag by type"),
}


def _prepare(given: dict[str, str]) -> dict:
    """Run `tttkd_ros.tools.preparation`. Raises RuntimeError with its reason if it refuses the arguments."""
    parameters, remappings = ARGUMENT_TOOLS["plan"](given, CONFIG)
    options = ["--out", given["out"], "--points", remappings.pop("points", ""), "--given", json.dumps(parameters),
               "--remapped", json.dumps(remappings)]
    command = [*PYTHON, "tttkd_ros.tools.preparation", given["bag"], "--params-file", given["params_file"], *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1])


def _check(given: dict[str, str]) -> None:
    """Refuse wrong arguments now rather than when the segmenter is ready."""
    if given["player"] not in ("auto", "ros2", "own"):
        raise RuntimeError(f"player is {given['player']!r}, expected auto, ros2 or own")
    try:
        rate = float(given["rate"])
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise RuntimeError(f"rate is {given['rate']!r}, expected a number above 0: times real time")


def _player(given: dict[str, str], topics: list[str]) -> list[str]:
    verbs = {entry.name for entry in entry_points(group="ros2cli.command")} if shutil.which("ros2") else set()
    if given["player"] == "ros2" and "bag" not in verbs:
        raise RuntimeError("player is 'ros2', but `ros2 bag` is not installed (package ros2bag): use player:=own")
    if given["player"] == "own" or "bag" not in verbs:
        own = [*PYTHON, "tttkd_ros.tools.player", given["bag"], "--rate", given["rate"], "--wait-for-subscribers"]
        return [*own, "--topics", *topics]
    ros2_play = ["ros2", "bag", "play", given["bag"], "--rate", given["rate"], "--delay", str(PLAY_DELAY)]
    return [*ros2_play, "--disable-keyboard-controls", "--topics", *topics]


def _processes(context) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", *ARGUMENTS)}
    _check(given)
    if given["cameras"] == NOT_GIVEN and given["image"] != NOT_GIVEN:
        given["cameras"] = ARGUMENT_TOOLS["camera_names"](given["image"])  # live and replayed cameras have one name
    prepared = _prepare(given)
    recording = str(Path(given["out"]) / "recording")
    recorder = ExecuteProcess(
        cmd=[*PYTHON, "tttkd_ros.tools.recorder", recording, LABELLED, ADAPTATION, "--follow", prepared["points"],
             "--linger", str(LINGER)],
        name="recorder", output="screen",
    )
    player = ExecuteProcess(cmd=_player(given, prepared["topics"]), name="player", output="screen")
    evaluation = ExecuteProcess(
        cmd=[*PYTHON, "tttkd_ros.cli", "evaluate", given["bag"], "--recording", recording, "--out",
             str(Path(given["out"]) / "evaluation"), *prepared["options"]],
        name="evaluation", output="screen", output_format="{line}",
        additional_env={"OMP_NUM_THREADS": str(prepared["threads"])},
    )
    tools = (recorder, player, evaluation)
    output = {"segmenter": "", "recorder": ""}
    started, ended = set(), set()

    def start_when(is_ready, tool: ExecuteProcess, process: str, text: bytes) -> list[ExecuteProcess] | None:
        """The tool, as soon as `is_ready` is true of all that the process has printed so far."""
        if tool in started:
            return None
        output[process] += text.decode(errors="replace")
        if not is_ready(output[process]):
            return None
        started.add(tool)
        return [tool]

    def can_adapt(text: str) -> bool:
        """Whether the segmenter has logged that it adapts, or that it never will."""
        return all(any(phrase in text for phrase in phrases) for phrases in prepared["awaited"])

    def on_output(event):
        if event.action is recorder:
            return start_when(lambda text: text.count("recording /") == 2, player, "recorder", event.text)
        if event.action not in tools:
            return start_when(can_adapt, recorder, "segmenter", event.text)
        return None

    def on_exit(event, context):
        if context.is_shutdown:
            return None
        if event.returncode != 0:
            raise RuntimeError(f"{event.process_name} ended with code {event.returncode}: its output says why")
        ended.add(event.action)
        if event.action is recorder:
            return [EmitEvent(event=ShutdownProcess(process_matcher=lambda action: action not in tools))]
        if event.action in tools:
            return None
        if recorder not in ended:
            raise RuntimeError("the segmenter ended before all was recorded")
        return [evaluation]

    # It also names the profile to Fast DDS for the processes that start after it: `ros2 bag play` needs it, too.
    segmenter = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / "segment.launch.py")),
        launch_arguments=[
            *((name, given[name]) for name in ("params_file", *ARGUMENT_TOOLS["NODE_ARGUMENTS"]) if name != "points"),
            ("points", prepared["points"]), ("use_sim_time", "false"),
            ("sigterm_timeout", END_TIMEOUT), ("sigkill_timeout", END_TIMEOUT),
        ],
    )
    warnings = [
        LogInfo(msg=f"replay does not have {parameter}: live and replayed labels will differ")
        for parameter in prepared["not_replayed"]
    ]
    return [
        RegisterEventHandler(OnProcessIO(on_stdout=on_output, on_stderr=on_output)),
        RegisterEventHandler(OnProcessExit(on_exit=on_exit)),
        *warnings,
        segmenter,
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="required: the bag to play, a rosbag2 folder, an .mcap or a .db3"),
            *(DeclareLaunchArgument(n, default_value=v, description=d) for n, (v, d) in ARGUMENTS.items()),
            LogInfo(msg=["reading ", LaunchConfiguration("bag")]),
            OpaqueFunction(function=_processes),
        ]
    )
