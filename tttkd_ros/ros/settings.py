"""The fixed ROS parameters: read once, when the node starts."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from tttkd_ros.adaptation.process import STEP_TIMEOUT_S
from tttkd_ros.geometry.mounting import BASE_FRAME
from tttkd_ros.messages.encodings import CHANNEL_ORDERS
from tttkd_ros.messages.limits import CLOUD_BYTES, IMAGE_BYTES, IMAGE_PIXELS
from tttkd_ros.messages.matching import TOLERANCE_S
from tttkd_ros.messages.point_times import TIME_UNITS

AUTO = "auto"


def _parameter(name: str, default: Any, description: str, low=None, high=None, choices=()) -> Any:
    """A field with its ROS parameter's name, description and bounds beside its one default."""
    metadata = {"name": name, "description": description, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """One field for each fixed parameter. Raises ValueError naming the parameter, its value and what was expected."""

    autostart: bool = _parameter(
        "autostart", True, "configure and activate at start; false: wait for a lifecycle manager")
    build_only: bool = _parameter(
        "build_only", False, "build the teacher's engine, log the path of its cache file, and end: for set-up")
    model: str = _parameter(
        "model", "models/student/student.safetensors", "student checkpoint; a relative path may name a shipped file")
    teacher: str = _parameter(
        "teacher", "models/teacher", "teacher's folder (timm layout) or hub name; empty: segment only, never adapt")
    engine: str = _parameter(
        "engine", "auto", "what runs the teacher", choices=("auto", "eager", "openvino", "tensorrt"))
    device: str = _parameter("device", "auto", "torch device of student and teacher: auto, cpu, cuda, cuda:0, ...")
    cameras: tuple[str, ...] = _parameter(
        "cameras", (AUTO,), "cameras to learn from: topics <camera>/image and <camera>/camera_info; [auto]: the rig's "
        "cameras, or camera_front without a rig; [''] for none")
    rig: str = _parameter(
        "rig", "", "YAML file with camera_from_lidar of every camera; it takes precedence over CameraInfo and TF; "
        "empty: use TF")
    fixed_frame: str = _parameter(
        "motion.fixed_frame", "odom", "odometry's frame in TF: points are projected where they are at the image's "
        "time; empty: where they are at the cloud's time")
    base_frame: str = _parameter(
        "base_frame", BASE_FRAME, "frame in TF whose z axis points up: it levels the clouds of a tilted or inverted "
        "sensor; empty: never level")
    image_transport: str = _parameter(
        "image_transport", "raw", "raw: <camera>/image; compressed: <camera>/image/compressed",
        choices=("raw", "compressed"))
    channel_order: str = _parameter(
        "images.channel_order", "refuse", "of images whose encoding leaves it open: 8UC3, 8UC4, 16UC3, 16UC4",
        choices=CHANNEL_ORDERS)
    time_unit: str = _parameter(
        "points.time_unit", "auto", "unit of the clouds' point times; auto: the one that makes them span a sweep",
        choices=TIME_UNITS)
    tolerance: float = _parameter(
        "matching.tolerance", TOLERANCE_S, "largest time between a sweep's stamp and its image's, seconds", 0.0, 10.0)
    offsets: tuple[float, ...] = _parameter(
        "matching.offsets", (), "seconds from a sweep's stamp to its image's stamp, one per camera, e.g. -37.0 if the "
        "camera is in UTC and the LiDAR in TAI; [] for none")
    history: int = _parameter("matching.depth", 10, "images kept per camera, still encoded", 1, 1000)
    history_bytes: int = _parameter(
        "matching.bytes", IMAGE_BYTES, "bytes of the images kept per camera; the newest is always kept", 2**20, 2**40)
    wait: float = _parameter(
        "matching.wait", 0.1, "seconds that a training step, never a cloud, waits for its sweep's images", 0.0, 10.0)
    injection_wait: float = _parameter(
        "injection.wait", 0.0, "seconds that a cloud waits for its images, if the student takes image features (DITR); "
        "0: a third of the sweep period", 0.0, 10.0)
    cloud_bytes: int = _parameter(
        "limits.cloud_bytes", CLOUD_BYTES, "a larger cloud is refused as it arrives and counted as undecodable",
        2**16, 2**32)
    image_pixels: int = _parameter(
        "limits.image_pixels", IMAGE_PIXELS, "a larger image is refused before it is kept or decoded", 2**10, 2**30)
    reliability: str = _parameter(
        "qos.reliability", "auto", "of the subscriptions to points and images; auto: as each publisher offers",
        choices=("auto", "reliable", "best_effort"))
    depth: int = _parameter("qos.depth", 5, "messages that the middleware keeps per topic", 1, 10000)
    queue: int = _parameter(
        "queue", 10, "sweeps that may wait for the student; if there are more, the oldest is dropped and counted",
        1, 10000)
    deadline: float = _parameter(
        "deadline", 0.0, "seconds from a sweep's arrival to its labels; adaptation slows down if the latency comes "
        "close; 0: the sweep period, measured from the stamps", 0.0, 60.0)
    threads: int = _parameter(
        "threads", 1, "CPU threads of each of the two models, the one that segments and the one that trains", 1, 256)
    worker_patience: float = _parameter(
        "worker.patience", STEP_TIMEOUT_S, "seconds until a training process that does not respond is killed and "
        "replaced", 1.0, 3600.0)
    autosave: float = _parameter(
        "state.autosave", 0.0, "seconds between saves of adapted weights to state.file, which are also saved at the "
        "end; 0: never", 0.0, 86400.0)
    load_at_start: bool = _parameter(
        "state.load_at_start", False, "start with state.file if it exists; with the model if the file is refused")
    paper: bool = _parameter(
        "paper", False, "use the paper's exact algorithm: statistics frozen, whole clouds, no guard, no scene limit; "
        "overrides ttt.bn_momentum, ttt.crop, ttt.guard and ttt.source_anchoring")
    seed: int = _parameter("seed", 0, "of the worker's random draws", 0, 2**31 - 1)

    def __post_init__(self):
        for f in fields(self):
            _check(f, getattr(self, f.name))
        if len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"parameter 'cameras' is {list(self.cameras)}: expected each camera once")
        fits = self.cameras == (AUTO,) or len(self.offsets) in (0, len(self.cameras))  # auto: checked with the names
        if not fits or not all(isinstance(value, float | int) and math.isfinite(value) for value in self.offsets):
            raise ValueError(
                f"parameter 'matching.offsets' is {list(self.offsets)}: expected none, or as many as cameras "
                f"({len(self.cameras)}), each a finite number of seconds"
            )


def _check(f: Field, value: Any) -> None:
    name, choices, low, high = (f.metadata[key] for key in ("name", "choices", "low", "high"))
    if choices and value not in choices:
        raise ValueError(f"parameter {name!r} is {value!r}: expected one of {', '.join(choices)}")
    if low is not None and not low <= value <= high:
        raise ValueError(f"parameter {name!r} is {value!r}: expected {low} to {high}")
