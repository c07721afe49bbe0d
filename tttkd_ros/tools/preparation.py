"""Print what `evaluate.launch.py` needs to know, as JSON: `python -m tttkd_ros.tools.preparation BAG ...`.

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
from tttkd_ros.paths import resolve_path, resolve_teacher
from tttkd_ros.ros import parameters
from tttkd_ros.ros.camera_setup import CameraTopics, resolve_camera_topics, with_cameras
from tttkd_ros.ros.node import ACTIVE
from tttkd_ros.ros.settings import Settings

REPLAYED = {"enabled", "stride", "learning_rate", "bn_momentum", "kd_points", "guard"}  # settings that replay takes


@dataclass(frozen=True)
class Preparation:
    """What the launch file needs."""

    points: str  # topic of the sweeps
    topics: tuple[str, ...]  # to play
    awaited: tuple[tuple[str, ...], ...]  # the node is ready when it has logged one phrase of each tuple
    options: tuple[str, ...]  # of `tttkd evaluate`, so that replay does what the node does
    threads: int  # CPU threads of the replay
    not_replayed: tuple[str, ...]  # parameters that replay does not have, "name: value"


def prepare(bag: tyro.conf.Positional[Path], /, *, params_file: Path, out: Path, points: str = "", given: str = "{}",
            remapped: str = "{}") -> Preparation:
    """Read a bag and the node's parameters.

    `out`, the folder for the recording, must be empty or missing. `points`, the sweeps' topic, is found by type if it
    is empty. `given` and `remapped` are parameters and topics that replace the node's, as JSON.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already: remove an earlier run's results, or name another folder by out:=...")
    settings, config, sources = read_node(params_file, json.loads(given), json.loads(remapped))
    with open_bag(bag) as opened:
        types = opened.types
        points = topics.require(types, points, topics.CLOUD) if points else topics.points_topic(types, opened.counts)
    adapts = bool(config.enabled and settings.cameras and settings.teacher)
    return Preparation(
        points=points,
        topics=(points, *_other_topics(settings, sources, types)),
        awaited=((ACTIVE,), (READY, OVER)) if settings.cameras and settings.teacher else ((ACTIVE,),),
        options=_options(settings, config, points, adapts, sources),
        threads=settings.threads,
        not_replayed=_not_replayed(settings, config) if adapts else (),
    )


def read_node(file: Path, given: Mapping[str, object],
              remapped: Mapping[str, str]) -> tuple[Settings, TTTConfig, dict[str, CameraTopics]]:
    """The node's parameters and its cameras' topics. Raises ValueError if the node would refuse a parameter."""
    if not file.is_file():
        raise ValueError(f"no parameter file at {file}")
    remappings = [word for name, topic in remapped.items() for word in ("-r", f"{name}:={topic}")]
    arguments = ["--ros-args", "--params-file", str(file), *remappings]
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = rclpy.create_node("segmenter", context=context, cli_args=arguments, parameter_overrides=overrides)
        settings = parameters.declare(node)
        config = parameters.read_config(node, settings)
        rig = load_rig(resolve_path(settings.rig)) if settings.rig else None
        settings = with_cameras(settings, rig)
        return settings, config, resolve_camera_topics(node, settings, rig)
    except (ParameterException, RuntimeError) as error:
        raise ValueError(f"parameter file {file}: {error}") from error
    finally:
        rclpy.try_shutdown(context=context)


def _other_topics(settings: Settings, sources: Mapping[str, CameraTopics], types: Mapping[str, str]) -> list[str]:
    """The other topics that the node subscribes to: the player waits for a subscription on each topic it plays."""
    kind = topics.IMAGE if settings.image_transport == "raw" else topics.COMPRESSED
    found = []
    for camera in settings.cameras if settings.teacher else ():
        image, info = sources[camera]
        if types.get(image) != kind:
            raise ValueError(f"the bag has no {kind} topic {image}, which the node subscribes to for {camera!r}: set "
                             f"its parameters cameras and image_transport; the bag has {topics.described(types)}")
        found += [image, *({info} & types.keys())]
    places_cameras = settings.teacher and settings.cameras and (settings.fixed_frame or not settings.rig)
    levels = settings.base_frame and (not settings.rig or load_base_from_lidar(resolve_path(settings.rig)) is None)
    if find_spec("tf2_ros") and (places_cameras or levels):
        found += sorted({topics.MOVING_TOPIC, topics.STATIC_TOPIC} & types.keys())
    return found


def _options(settings: Settings, config: TTTConfig, points: str, adapts: bool,
             sources: Mapping[str, CameraTopics]) -> tuple[str, ...]:
    options = {
        "points-topic": points, "model": resolve_path(settings.model), "device": resolve_device(settings.device),
        "base-frame": settings.base_frame if find_spec("tf2_ros") else "",
    }
    if adapts:
        options |= {
            "teacher": resolve_teacher(settings.teacher), "engine": settings.engine, "seed": settings.seed,
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


def _not_replayed(settings: Settings, config: TTTConfig) -> tuple[str, ...]:
    """Parameters that change what is learned, that replay does not have, and that differ from their default."""
    loaded = ["state.load_at_start: True"] if settings.load_at_start else []
    return (*loaded, *(f"{parameters.PREFIX}{f.name}: {value}" for f in fields(TTTConfig)
                       if f.name not in REPLAYED and (value := getattr(config, f.name)) != f.default))


def main() -> None:
    try:
        print(json.dumps(asdict(tyro.cli(prepare, prog="preparation"))))
    except (ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
