"""Start the segmenter, which configures and activates itself, and RViz with rviz:=true.

    ros2 launch tttkd_ros segment.launch.py rig:=config/rigs/kitti.yaml points:=/velodyne_points rviz:=true
    ros2 launch tttkd_ros segment.launch.py preset:=ouster rig:=rig.yaml image:=/camera/image_raw
    ros2 launch tttkd_ros segment.launch.py cameras:=front,rear image:=/front/image_raw,/rear/image_raw
"""

import runpy
from pathlib import Path
from typing import List  # noqa: UP035  launch_ros of Humble accepts only this spelling

from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from launch import LaunchDescription

# As installed (share/tttkd_ros/launch) and in the source tree, config/ lies beside launch/.
HERE = Path(__file__).resolve().parent
CONFIG = HERE.parent / "config"
ARGUMENT_TOOLS = runpy.run_path(str(HERE / "arguments.py"))
NOT_GIVEN = ARGUMENT_TOOLS["NOT_GIVEN"]

OPTIONAL = {
    **ARGUMENT_TOOLS["NODE_ARGUMENTS"],
    "use_sim_time": "take the time from /clock, true or false",
}

ARGUMENTS = {
    "params_file": (str(CONFIG / "segment.yaml"), "the node's parameter file"),
    "rviz": ("false", "open RViz with the package's layout"),
}


def _nodes(context) -> list:
    given = {name: LaunchConfiguration(name).perform(context) for name in (*OPTIONAL, "params_file")}
    if not Path(given["params_file"]).is_file():  # launch_ros would only warn
        raise RuntimeError(f"no parameter file at {given['params_file']}: params_file:=... names it")
    parameters, remappings = ARGUMENT_TOOLS["plan"](given, CONFIG)
    clock = {}
    if given["use_sim_time"] != NOT_GIVEN:
        clock["use_sim_time"] = _boolean("use_sim_time", given["use_sim_time"])
    profile = ARGUMENT_TOOLS["fast_dds"](CONFIG, context.environment)
    segmenter = Node(
        package="tttkd_ros",
        executable="segment",
        name="segmenter",
        output="screen",
        parameters=[given["params_file"], *_parameters(parameters | clock)],
        remappings=list(({"points": ARGUMENT_TOOLS["POINTS"]} | remappings).items()),
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(CONFIG / "segment.rviz")],
        parameters=_parameters(clock),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return [*(SetEnvironmentVariable(name, value) for name, value in profile.items()), segmenter, rviz]


def _boolean(name: str, text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise RuntimeError(f"{name} is {text!r}, expected true or false")
    return words[text.lower()]


def _parameters(given: dict[str, object]) -> list[dict[str, object]]:
    """Add types: launch_ros would read the text '1e5' as a number."""
    types = {str: str, list: List[str]}  # noqa: UP006
    typed = {
        name: ParameterValue(value, value_type=types[type(value)]) if type(value) in types else value
        for name, value in given.items()
    }
    return [typed] if typed else []  # launch_ros refuses an empty dictionary


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=NOT_GIVEN, description=d) for n, d in OPTIONAL.items()),
            *(DeclareLaunchArgument(n, default_value=v, description=d) for n, (v, d) in ARGUMENTS.items()),
            OpaqueFunction(function=_nodes),
        ]
    )
