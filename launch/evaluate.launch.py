"""Play a bag to the segmenter in real time, record what it answers, and show that beside replays of the same bag.

    ros2 launch tttkd_ros evaluate.launch.py bag:=drive out:=live rig:=config/rigs/demo.yaml

One after the other: the segmenter; once it can adapt the recorder; once that listens the player; when the bag is played
and no more answers come, the segmenter is ended and `tttkd evaluate` scores the recording beside lossless replays,
frozen and with the segmenter's settings. Everything is left in the folder `out`. A process that fails ends it all.
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
TOLD = runpy.run_path(str(HERE / "arguments.py"))
NOT_GIVEN = TOLD["NOT_GIVEN"]
# Of the PATH: the environment that has the package's requirements, where `ros2` itself need not run in it.
PYTHON = ("python3", "-u", "-m")
LABELLED, ADAPTATION = "/segmenter/points_labeled", "/segmenter/adaptation"
LINGER = 5  # seconds without an answer or a step, after the bag, that end the recording
PATIENCE = "30"  # seconds for the segmenter to end before it is sent a stronger signal
DELAY = 3  # seconds that `ros2 bag play` gives the segmenter to find its publishers

ARGUMENTS = {
    "out": ("live", "folder for the recording and the evaluation"),
    "rate": ("1.0", "times real time"),
    "player": ("auto", "ros2: `ros2 bag play`; own: tttkd_ros.tools.player; auto: the first where it is installed"),
    "params_file": (str(CONFIG / "segment.yaml"), "file of the segmenter's parameters"),
    **{name: (NOT_GIVEN, description) for name, description in TOLD["NODE_ARGUMENTS"].items()},
    "points": (NOT_GIVEN, "topic of the LiDAR's clouds; if not given, as in the preset, or found in the bag by type"),
}


def _prepared(given: dict[str, str]) -> dict:
    """What `tttkd_ros.tools.preparation` makes of the arguments. RuntimeError where something is wrong with them."""
    parameters, remappings = TOLD["plan"](given, CONFIG)
    options = ["--out", given["out"], "--points", remappings.pop("points", ""), "--given", json.dumps(parameters),
               "--remapped", json.dumps(remappings)]
    command = [*PYTHON, "tttkd_ros.tools.preparation", given["bag"], "--params-file", given["params_file"], *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip())
    return json.loads(done.stdout.splitlines()[-1])


def _check(given: dict[str, str]) -> None:
    """What would else be found wrong only when the segmenter is ready."""
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
    theirs = ["ros2", "bag", "play", given["bag"], "--rate", given["rate"], "--delay", str(DELAY)]
    return [*theirs, "--disable-keyboard-controls", "--topics", *topics]


def _course(context) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in ("bag", *ARGUMENTS)}
    _check(given)
    if given["cameras"] == NOT_GIVEN and given["image"] != NOT_GIVEN:
        given["cameras"] = TOLD["named"](given["image"])  # so that live and replayed cameras have one name
    prepared = _prepared(given)
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
    heard = {"segmenter": "", "recorder": ""}
    begun, ended = set(), set()

    def begin(tool: ExecuteProcess, who: str, text: bytes, ready) -> list[ExecuteProcess] | None:
        """The tool, once what `who` has said so far is `ready`."""
        if tool in begun:
            return None
        heard[who] += text.decode(errors="replace")
        if not ready(heard[who]):
            return None
        begun.add(tool)
        return [tool]

    def can_adapt(said: str) -> bool:
        """Or that it never will."""
        return all(any(phrase in said for phrase in phrases) for phrases in prepared["awaited"])

    def on_output(event):
        if event.action is recorder:
            return begin(player, "recorder", event.text, lambda said: said.count("recording /") == 2)
        if event.action not in tools:
            return begin(recorder, "segmenter", event.text, can_adapt)
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

    # It also names the profile to Fast DDS, for all that is started after it: `ros2 bag play` needs it, too.
    segmenter = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / "segment.launch.py")),
        launch_arguments=[
            *((name, given[name]) for name in ("params_file", *TOLD["NODE_ARGUMENTS"]) if name != "points"),
            ("points", prepared["points"]), ("use_sim_time", "false"),
            ("sigterm_timeout", PATIENCE), ("sigkill_timeout", PATIENCE),
        ],
    )
    told = [
        LogInfo(msg=f"{name} is not followed by the replays: live and replayed are not alike")
        for name in prepared["unfollowed"]
    ]
    return [
        RegisterEventHandler(OnProcessIO(on_stdout=on_output, on_stderr=on_output)),
        RegisterEventHandler(OnProcessExit(on_exit=on_exit)),
        *told,
        segmenter,
    ]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument("bag", description="required: the bag to play, a rosbag2 folder, an .mcap or a .db3"),
            *(DeclareLaunchArgument(n, default_value=v, description=d) for n, (v, d) in ARGUMENTS.items()),
            LogInfo(msg=["looking at ", LaunchConfiguration("bag")]),
            OpaqueFunction(function=_course),
        ]
    )
