"""The fixed parameters: read once, when the node starts; to change one, start the node anew."""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields
from typing import Any

from tttkd_ros.adaptation.process import STEP_TIMEOUT_S
from tttkd_ros.classes import CLASS_SETS
from tttkd_ros.geometry.mounting import BASE_FRAME
from tttkd_ros.messages.encodings import CHANNEL_ORDERS
from tttkd_ros.messages.limits import CLOUD_BYTES, IMAGE_BYTES, IMAGE_PIXELS
from tttkd_ros.messages.matching import TOLERANCE_S
from tttkd_ros.messages.point_times import TIME_UNITS

AUTO = "auto"


def _parameter(name: str, default: Any, description: str, *, low=None, high=None, choices=()) -> Any:
    """A field with its ROS parameter's name, description and bounds beside its one default."""
    metadata = {"name": name, "description": description, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Raises ValueError naming the ROS parameter, its value and what was expected."""

    autostart: bool = _parameter(
        "autostart", True, "configure and activate at start; false: wait for a lifecycle manager"
    )
    build_only: bool = _parameter(
        "build_only", False, "build the teacher's engine, say where it is kept, and end: for a robot's set-up"
    )
    model: str = _parameter(
        "model", "models/student/student.safetensors", "student checkpoint; a relative path may name a file that ships"
    )
    teacher: str = _parameter(
        "teacher", "models/teacher", "teacher's directory (transformers layout); empty: segment only, never adapt"
    )
    engine: str = _parameter(
        "engine", "auto", "what runs the teacher", choices=("auto", "eager", "openvino", "tensorrt")
    )
    device: str = _parameter("device", "auto", "torch device of student and teacher: auto, cpu, cuda, cuda:0, ...")
    class_set: str = _parameter("class_set", "outdoor10", "class set that the model must have", choices=CLASS_SETS)
    cameras: tuple[str, ...] = _parameter(
        "cameras", (AUTO,),
        "cameras to learn from: topics <camera>/image and <camera>/camera_info; [auto]: those of the rig, camera_front "
        "without one; [''] for none",
    )
    rig: str = _parameter(
        "rig", "", "YAML file with camera_from_lidar of every camera; what it says goes before CameraInfo and TF; "
        "empty: TF",
    )
    fixed_frame: str = _parameter(
        "motion.fixed_frame", "odom",
        "odometry's frame in TF: points are projected where they are at the image's time; empty: at the cloud's",
    )
    base_frame: str = _parameter(
        "base_frame", BASE_FRAME,
        "frame in TF whose z axis points up: clouds of a tilted or inverted sensor are levelled by it; empty: never",
    )
    image_transport: str = _parameter(
        "image_transport", "raw", "raw: <camera>/image; compressed: <camera>/image/compressed",
        choices=("raw", "compressed"),
    )
    channel_order: str = _parameter(
        "images.channel_order", "refuse", "of images whose encoding does not tell it: 8UC3, 8UC4, 16UC3, 16UC4",
        choices=CHANNEL_ORDERS,
    )
    time_unit: str = _parameter(
        "points.time_unit", "auto", "unit of the clouds' point times; auto: the one in which they make a sweep",
        choices=TIME_UNITS,
    )
    tolerance: float = _parameter(
        "matching.tolerance", TOLERANCE_S, "largest distance in stamp between a sweep and its image, seconds",
        low=0.0, high=10.0,
    )
    offsets: tuple[float, ...] = _parameter(
        "matching.offsets", (),
        "seconds from a sweep's stamp to that of the image that belongs to it, for each of the cameras, -37.0 where "
        "they are in UTC and the LiDAR in TAI; [] for none",
    )
    history: int = _parameter("matching.depth", 10, "images kept per camera, still encoded", low=1, high=1000)
    history_bytes: int = _parameter(
        "matching.bytes", IMAGE_BYTES, "bytes of the images kept per camera; the newest one is kept in any case",
        low=2**20, high=2**40,
    )
    wait: float = _parameter(
        "matching.wait", 0.1, "how long a training step (never a cloud) waits for its sweep's images, seconds",
        low=0.0, high=10.0,
    )
    cloud_bytes: int = _parameter(
        "limits.cloud_bytes", CLOUD_BYTES, "a larger cloud is refused as it arrives, and counted as undecodable",
        low=2**16, high=2**32,
    )
    image_pixels: int = _parameter(
        "limits.image_pixels", IMAGE_PIXELS, "a larger image is refused before it is kept or decoded",
        low=2**10, high=2**30,
    )
    reliability: str = _parameter(
        "qos.reliability", "auto", "of the subscriptions to points and images; auto: as each publisher offers it",
        choices=("auto", "reliable", "best_effort"),
    )
    depth: int = _parameter("qos.depth", 5, "history depth of the middleware's queues", low=1, high=10000)
    queue: int = _parameter(
        "queue", 10, "sweeps that may wait for the student; beyond that the oldest is dropped and counted",
        low=1, high=10000,
    )
    deadline: float = _parameter(
        "deadline", 0.0, "seconds from a sweep's arrival to its answer; adaptation gives way as latency nears it; "
        "0: the sweep period, measured from the stamps", low=0.0, high=60.0,
    )
    threads: int = _parameter(
        "threads", 1, "CPU threads of each of the two models, the one that segments and the one that trains",
        low=1, high=256,
    )
    worker_patience: float = _parameter(
        "worker.patience", STEP_TIMEOUT_S, "seconds until a training step's process that gives no answer is killed, and "
        "another started", low=1.0, high=3600.0,
    )
    autosave: float = _parameter(
        "state.autosave", 0.0, "save adapted weights to state.file every so many seconds, and at the end; 0: never",
        low=0.0, high=86400.0,
    )
    load_at_start: bool = _parameter(
        "state.load_at_start", False, "go on from state.file if there is one; begin with the model if it is refused"
    )
    seed: int = _parameter("seed", 0, "of the worker's random draws", low=0, high=2**31 - 1)

    def __post_init__(self):
        for f in fields(self):
            _check(f, getattr(self, f.name))
        if len(set(self.cameras)) != len(self.cameras):
            raise ValueError(f"parameter 'cameras' is {list(self.cameras)}: expected each camera once")
        fit = self.cameras == (AUTO,) or len(self.offsets) in (0, len(self.cameras))  # checked once they are known
        if not fit or not all(_is_offset(value) for value in self.offsets):
            raise ValueError(
                f"parameter 'matching.offsets' is {list(self.offsets)}: expected none, or as many as cameras "
                f"({len(self.cameras)}), each a finite number of seconds"
            )


def _is_offset(value: Any) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def _check(f: Field, value: Any) -> None:
    name, choices, low, high = (f.metadata[key] for key in ("name", "choices", "low", "high"))
    if choices and value not in choices:
        raise ValueError(f"parameter {name!r} is {value!r}: expected one of {', '.join(choices)}")
    if low is not None and not low <= value <= high:
        raise ValueError(f"parameter {name!r} is {value!r}: expected {low} to {high}")
