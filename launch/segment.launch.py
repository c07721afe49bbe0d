"""Start the segmenter, which configures and activates itself, and RViz where asked.

    ros2 launch tttkd_ros segment.launch.py rig:=config/rigs/kitti.yaml points:=/velodyne_points rviz:=true
"""

from pathlib import Path

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from launch import LaunchDescription

# As installed (share/tttkd_ros/launch) and in the source tree, config/ lies beside launch/.
CONFIG = Path(__file__).resolve().parents[1] / "config"

# Arguments that replace what params_file says, where they are given.
OVERRIDES = {
    "rig": "YAML file with every camera's camera_from_lidar; without one, here or in params_file, TF tells it",
    "model": "student checkpoint; if not given, as in params_file",
    "teacher": "teacher's directory (transformers layout); if not given, as in params_file",
    "use_sim_time": "whether the time is /clock's, true or false; if not given, as in params_file",
}

ARGUMENTS = {
    "params_file": (str(CONFIG / "segment.yaml"), "file of the node's parameters"),
    "points": ("/lidar/points", "topic of the LiDAR's clouds"),
    "rviz": ("false", "open RViz with the package's layout"),
}


def _nodes(context) -> list[Node]:
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    given = {name: value for name, value in given.items() if value}
    clock = {}
    if "use_sim_time" in given:
        clock["use_sim_time"] = _boolean("use_sim_time", given["use_sim_time"])
    params_file = LaunchConfiguration("params_file").perform(context)
    if not Path(params_file).is_file():  # which launch_ros only warns of
        raise RuntimeError(f"no parameter file at {params_file}: params_file:=... names it")
    segmenter = Node(
        package="tttkd_ros",
        executable="segment",
        name="segmenter",
        output="screen",
        parameters=[params_file, *_parameters(given | clock)],
        remappings=[("points", LaunchConfiguration("points").perform(context))],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(CONFIG / "segment.rviz")],
        parameters=_parameters(clock),
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return [segmenter, rviz]


def _boolean(name: str, text: str) -> bool:
    words = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in words:
        raise RuntimeError(f"{name} is {text!r}, expected true or false")
    return words[text.lower()]


def _parameters(given: dict[str, object]) -> list[dict[str, object]]:
    return [given] if given else []  # launch_ros takes no empty dictionary


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value="", description=d) for n, d in OVERRIDES.items()),
            *(DeclareLaunchArgument(n, default_value=v, description=d) for n, (v, d) in ARGUMENTS.items()),
            OpaqueFunction(function=_nodes),
        ]
    )
