"""Measure the node's overhead over the network, from a sweep's arrival to its publication, stage by stage.

forward is the network with voxelisation on the points as a tensor, which any segmenter needs. All else is overhead:
transfer to the inference thread (queue), decode, the parts of segmentation around the forward pass (copy, masks,
softmax, labels), encode, and publish, which here serialises the message as rclpy does. Sequential, in this process,
with the shipped student and without adaptation; wall clock, medians.

Aim: overhead below 15 per cent of the forward pass.
"""

from __future__ import annotations

import queue
import statistics
import time
from collections.abc import Mapping

import numpy as np
import torch
from common import Rows, command, one_thread, spinning_lidar, table
from rclpy.serialization import serialize_message
from rich.table import Table
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Governor
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.messages.cloud_encoding import encode_points
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros.inference import Inference
from tttkd_ros.ros.outputs import stamp_message
from tttkd_ros.segmenter.student import Student
from tttkd_ros.simulation.drive import frames


def run(quick: bool = False, rounds: int = 50) -> Rows:
    """One row for each stage, of a simulated sweep of the forward sector and of 120,000 points all around.

    Args:
        quick: Run briefly, only to check that it works.
        rounds: Sweeps, for the median.
    """
    rounds = 2 if quick else rounds
    clouds = [next(frames("kitti", 0, 1)).points, spinning_lidar(1_000 if quick else 120_000)]
    with one_thread():
        student, _ = load_models(with_teacher=False)
        return [row for points in clouds for row in _rows(student, points, rounds)]


def show(rows: Rows) -> Table:
    columns = {"points": ("points", ",d"), "": ("stage", ""), "ms": ("ms", ".2f"), "of the forward": ("share", ".1%")}
    return table("From arrival to publish; aim: overhead below 15 %", rows, columns)


class _Stages(Statistics):
    """Collects the seconds of each sweep by stage."""

    def __init__(self):
        super().__init__()
        self.sweeps: queue.Queue[Mapping[str, float]] = queue.Queue()

    def add_times(self, seconds: Mapping[str, float]) -> None:
        self.sweeps.put(seconds)


def _rows(student: Student, points: np.ndarray, rounds: int) -> Rows:
    stages, errors = _Stages(), []
    pipeline = Pipeline(student, None, TTTConfig(), background=False)
    palette = student.config.class_set.palette
    inference = Inference(
        pipeline, palette, None, serialize_message, lambda _: None, stages, ThrottledLog(errors.append),
        ThrottledLog(errors.append),
        queue_size=1, governor=Governor(0.0),
    )  # fmt: skip
    sweep, tensor = serialize_message(cloud_message(points)), torch.from_numpy(points)
    taken = []
    try:
        for _ in range(rounds + 1):
            began = time.perf_counter()
            with torch.inference_mode():
                student.logits(student.row_features(student.prepare(tensor)))
            forward = time.perf_counter() - began
            inference.submit(sweep)
            taken.append(_split(stages.sweeps.get(timeout=60), forward))
    finally:
        inference.close()
    if errors:
        raise RuntimeError(errors[0])
    middle = {stage: statistics.median(one[stage] for one in taken[1:]) for stage in taken[0]}  # the first warms up
    return [
        {"points": len(points), "stage": stage, "ms": seconds * 1e3, "share": seconds / middle["forward"]}
        for stage, seconds in middle.items()
    ]


def _split(stages: Mapping[str, float], forward: float) -> dict[str, float]:
    """Seconds of each part of the overhead, then of all of it, of the forward pass and of the whole."""
    parts = {
        "queue": stages["latency"] - sum(stages[name] for name in ("decode", "segment", "encode", "publish")),
        "decode": stages["decode"],
        "segment, around the forward": stages["segment"] - forward,
        "encode": stages["encode"],
        "publish": stages["publish"],
    }
    return parts | {"overhead": sum(parts.values()), "forward": forward, "arrival to publish": stages["latency"]}


def cloud_message(points: np.ndarray, stamp: int = 0, point_step: int = 16) -> PointCloud2:
    """points (N, 3), metres; stamp: nanoseconds; point_step: bytes."""
    encoded = encode_points(points, np.zeros(len(points), np.float32)).padded(point_step)
    return PointCloud2(
        header=Header(stamp=stamp_message(stamp)), height=1, width=encoded.width, point_step=encoded.point_step,
        row_step=len(encoded.buffer), is_dense=True,
        fields=[PointField(**field._asdict()) for field in encoded.fields], data=encoded.buffer,
    )  # fmt: skip


if __name__ == "__main__":
    command("overhead", __doc__, run, show)
