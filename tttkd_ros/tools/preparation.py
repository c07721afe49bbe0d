"""What `evaluate.launch.py` has to know, as JSON: `python -m tttkd_ros.tools.preparation BAG --params-file FILE ...`.

`ros2 launch` itself may run in an interpreter that has ROS and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path

import rclpy
import tyro
from rclpy.exceptions import ParameterException
from rclpy.parameter import Parameter

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.worker import OVER, READY
from tttkd_ros.bags import topics
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.devices import resolve_device
from tttkd_ros.geometry.rig import load_base_from_lidar, load_rig
from tttkd_ros.names import camera_name
from tttkd_ros.paths import resolve_path
from tttkd_ros.ros import parameters
from tttkd_ros.ros.camera_setup import CameraTopics, camera_topics, with_cameras
from tttkd_ros.ros.node import ACTIVE
from tttkd_ros.ros.settings import Settings

# What replay takes from the node. What else a parameter file sets, it does not follow.
FOLLOWED = {"enabled", "stride", "learning_rate", "bn_momentum", "kd_points", "guard"}
OTHERWISE = ("load_at_start",)  # settings that change what is learnt from


@dataclass(frozen=True)
class Preparation:
    """points: the sweeps' topic. topics: to play. awaited: the node is ready when it has logged one of each list.
    options: of `tttkd evaluate`, so that it replays what the node does. threads: of the CPU, for that. unfollowed:
    parameters that replay does not know, "name: value".
    """

    points: str
    topics: tuple[str, ...]
    awaited: tuple[tuple[str, ...], ...]
    options: tuple[str, ...]
    threads: int
    unfollowed: tuple[str, ...]


def prepare(
    bag: tyro.conf.Positional[Path],
    /,
    *,
    params_file: Path,
    out: Path,
    points: str = "",
    given: str = "{}",
    remapped: str = "{}",
) -> Preparation:
    """Look at a bag and at the node's parameters. Raises ValueError where the two, or a file, do not fit.

    Args:
        bag: the bag to be played.
        params_file: the node's parameter file.
        out: where the recording is to go; it must hold none.
        points: the sweeps' topic; found by type if not given.
        given: the node's parameters that replace the file's, as JSON.
        remapped: topics of the node -> those of the bag that it takes in their place, as JSON.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already: remove what an earlier run has left, or name another with out:=...")
    settings, config, sources = read_node(params_file, json.loads(given), json.loads(remapped))
    with open_bag(bag) as opened:
        types = opened.types
        points = topics.require(types, points, topics.CLOUD) if points else topics.points_topic(types, opened.counts)
    adapts = bool(config.enabled and settings.cameras and settings.teacher)
    return Preparation(
        points=points,
        topics=(points, *_beside(settings, sources, types)),
        awaited=((ACTIVE,), (READY, OVER)) if settings.cameras and settings.teacher else ((ACTIVE,),),
        options=_options(settings, config, points, adapts, sources),
        threads=settings.threads,
        unfollowed=_unfollowed(settings, config) if adapts else (),
    )


def read_node(
    file: Path, given: Mapping[str, object], remapped: Mapping[str, str]
) -> tuple[Settings, TTTConfig, dict[str, CameraTopics]]:
    """The node's parameters and its cameras' topics, as the node would find them.

    Raises:
        ValueError: if the node would refuse a parameter.
    """
    if not file.is_file():
        raise ValueError(f"no parameter file at {file}")
    remappings = [word for name, topic in remapped.items() for word in ("-r", f"{name}:={topic}")]
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        node = rclpy.create_node(
            "segmenter", context=context, cli_args=["--ros-args", "--params-file", str(file), *remappings],
            parameter_overrides=[Parameter(name, value=value) for name, value in given.items()],
        )
        settings = parameters.declare(node)
        config = parameters.read_config(node, settings)
        rig = load_rig(resolve_path(settings.rig)) if settings.rig else None
        settings = with_cameras(settings, rig)
        return settings, config, camera_topics(node, settings, rig)
    except (ParameterException, RuntimeError) as error:
        raise ValueError(f"parameter file {file}: {error}") from error
    finally:
        rclpy.try_shutdown(context=context)


def _beside(settings: Settings, sources: Mapping[str, CameraTopics], types: Mapping[str, str]) -> list[str]:
    """What else the node listens to: a topic without a subscription would be waited for in vain."""
    raw, found = settings.image_transport == "raw", []
    for camera in settings.cameras if settings.teacher else ():
        image, info = sources[camera]
        kind = topics.IMAGE if raw else topics.COMPRESSED
        if types.get(image) != kind:
            raise ValueError(f"the bag has no {kind} topic {image}, where the node looks for {camera!r}: set its "
                             f"parameters cameras and image_transport; the bag has {topics.described(types)}")
        found += [image, *({info} & types.keys())]
    places_cameras = settings.teacher and settings.cameras and (settings.fixed_frame or not settings.rig)
    levels = settings.base_frame and (not settings.rig or load_base_from_lidar(resolve_path(settings.rig)) is None)
    if find_spec("tf2_ros") and (places_cameras or levels):
        found += sorted({topics.MOVING_TOPIC, topics.STATIC_TOPIC} & types.keys())
    return found


def _options(
    settings: Settings, config: TTTConfig, points: str, adapts: bool, sources: Mapping[str, CameraTopics]
) -> tuple[str, ...]:
    options = {
        "points-topic": points, "model": resolve_path(settings.model), "device": resolve_device(settings.device),
        "base-frame": settings.base_frame if find_spec("tf2_ros") else "",
    }  # fmt: skip
    if adapts:
        options |= {
            "teacher": resolve_path(settings.teacher), "engine": settings.engine, "seed": settings.seed,
            "stride": config.stride, "learning-rate": config.learning_rate, "bn-momentum": config.bn_momentum,
            "kd-points": config.kd_points, "tolerance": settings.tolerance, "fixed-frame": settings.fixed_frame,
        }
    if settings.rig and (adapts or not load_rig(resolve_path(settings.rig))):  # without cameras it has the mounting
        options["rig"] = resolve_path(settings.rig)
    text = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    text += ["--method", "ttt-kd-o" if adapts else "frozen"]
    if adapts:
        text += ["--guard" if config.guard else "--no-guard", "--cameras",
                 *(camera_name(sources[camera].image) for camera in settings.cameras)]
        text += ["--offset", *map(str, settings.offsets)] if settings.offsets else []
    return tuple(text)


def _unfollowed(settings: Settings, config: TTTConfig) -> tuple[str, ...]:
    """Parameters with another value than their default, which is replay's."""
    named = [(f, f.metadata["name"], settings) for f in fields(Settings) if f.name in OTHERWISE]
    named += [(f, parameters.PREFIX + f.name, config) for f in fields(TTTConfig) if f.name not in FOLLOWED]
    return tuple(
        f"{name}: {value}" for f, name, holder in named if (value := getattr(holder, f.name)) != f.default
    )


def main() -> int:
    try:
        print(json.dumps(asdict(tyro.cli(prepare, prog="preparation"))))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
