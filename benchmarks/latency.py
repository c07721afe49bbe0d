"""Measure latency and rate of the answers by stride, with steps in another process, in a thread, or inline.

Simulated sweeps arrive at the LiDAR's rate in this process, as from the node's subscription. Latency is from arrival to
publish. "inline" is the paper's loop: steps alternate with predictions, so that sweeps wait. Then sweeps are submitted
as fast as they are answered, which gives the predictions per second. Modes alternate in several rounds, and their
latencies are pooled. Shipped student and teacher, one thread each.

Aim: at stride 5 in a process, a p99 of at most 1.5 times that without adaptation, at the same rate.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from common import Rows, command, one_thread, table
from overhead import cloud_message
from rclpy.serialization import serialize_message
from rich.table import Table
from sensor_msgs.msg import PointCloud2

from tttkd_ros.adaptation.adapter import Adapter
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Governor
from tttkd_ros.adaptation.loading import load_ttt_kd
from tttkd_ros.adaptation.process import AdapterProcess
from tttkd_ros.frame import Frame
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.paths import STUDENT, TEACHER, shipped_path
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros.inference import Inference
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.simulation.drive import frames

RATE = 10.0  # sweeps per second


def run(
    quick: bool = False, seconds: float = 12.0, rounds: int = 3, strides: tuple[int, ...] = (1, 2, 5, 10),
    point_step: int = 16,
) -> Rows:
    """One row for each mode and stride.

    Args:
        quick: Run briefly, only to check that it works.
        seconds: Per mode and round, at the LiDAR's rate.
        rounds: Of alternating modes.
        strides: Sweeps per step.
        point_step: Bytes of each point; 128 makes clouds of 1.8 MB, as of drivers with many fields.
    """
    if quick:
        seconds, rounds, strides = 0.5, 1, (1,)
    sweeps = list(frames("kitti", 0, max(3, round(seconds * RATE))))
    with one_thread():
        student = load_student(shipped_path(STUDENT))
        engine = "eager" if quick else "auto"
        build = partial(load_ttt_kd, student, shipped_path(TEACHER), engine=engine, device="cpu", threads=1, seed=0)
        beside = partial(AdapterProcess, build, Weights.copied(0, student.backbone))
        modes: list[tuple[str, Callable[[], Adapter] | None, int]] = [("off", None, 0)]
        modes += [
            (name, how, stride)
            for stride in strides
            for name, how in (("process", beside), ("thread", build), ("inline", build))
        ]
        runs: dict[tuple, list] = {mode: [] for mode in modes}
        for _ in range(rounds):
            for mode, found in runs.items():
                found.append(_run(student, sweeps, point_step, *mode))
    rows = [_row(mode, found) for mode, found in runs.items()]
    for row in rows:
        row["ratio"] = row["p99_ms"] / rows[0]["p99_ms"]
    return rows


def show(rows: Rows) -> Table:
    columns = {
        "steps": ("mode", ""), "stride": ("stride", ""), "p50 ms": ("p50_ms", ".0f"), "p95 ms": ("p95_ms", ".0f"),
        "p99 ms": ("p99_ms", ".0f"), "to off": ("ratio", ".2f"), "answered": ("answered", ".0%"),
        "taken": ("steps", "d"), "due": ("due", "d"), "per s": ("rate", ".1f"),
    }  # fmt: skip
    return table(f"Arrival to publish at {RATE:g} Hz; aim at stride 5: p99 at most 1.5 times off's", rows, columns)


def _row(mode: tuple, found: Sequence[tuple[np.ndarray, int, int, int, float]]) -> dict:
    name, _, stride = mode
    latency = np.concatenate([one[0] for one in found])
    p50, p95, p99 = np.percentile(latency, (50, 95, 99)).tolist()
    sent, steps, due = (sum(one[place] for one in found) for place in (1, 2, 3))
    return {
        "mode": name, "stride": str(stride or ""), "p50_ms": p50, "p95_ms": p95, "p99_ms": p99,
        "answered": len(latency) / sent, "steps": steps, "due": due,
        "rate": float(np.median([one[4] for one in found])),
    }  # fmt: skip


class _Node:
    """The node's inference thread around a pipeline, with the time of each answer."""

    def __init__(self, student, build: Callable[[], Adapter] | None, stride: int, inline: bool):
        self.answered: dict[int, float] = {}
        self._changed = threading.Condition()
        self._errors: list[str] = []
        config = TTTConfig(stride=stride or 1)
        self.pipeline = Pipeline(student, build, config, background=not inline)
        self._frames: dict[int, Frame] = {}
        palette = student.config.class_set.palette
        self.inference = Inference(
            self.pipeline, palette, self if build else None, self._publish, lambda _: None, Statistics(),
            ThrottledLog(lambda _: None), ThrottledLog(self._errors.append), queue_size=1000, governor=Governor(60.0),
        )  # fmt: skip
        while build and self.pipeline.status.text == "starting":
            time.sleep(0.05)

    # The interface of the node's cameras.

    def add_sweep(self, stamp: int) -> int:
        return stamp

    def frame(self, scan: int, points: np.ndarray, frame_id: str, *, times: object, level: object) -> Frame:
        return self._frames[scan]

    def submit(self, frame: Frame, cloud: bytes) -> None:
        self._frames[frame.stamp] = frame
        self.inference.submit(cloud)

    def wait(self, count: int) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.answered) >= count, 60):
                raise RuntimeError(f"{len(self.answered)} of {count} sweeps answered within a minute: {self._errors}")

    def close(self) -> None:
        self.inference.close()
        self.pipeline.close()

    def _publish(self, message: PointCloud2) -> None:
        with self._changed:
            self.answered[nanoseconds(message.header.stamp)] = time.monotonic()
            self._changed.notify()


def _run(
    student, sweeps: Sequence[Frame], point_step: int, name: str, build, stride: int
) -> tuple[np.ndarray, int, int, int, float]:
    """Milliseconds of each sweep; sweeps sent; steps taken and due; predictions per second."""
    clouds = [serialize_message(cloud_message(sweep.points, sweep.stamp, point_step)) for sweep in sweeps]
    node = _Node(student, build, stride, name == "inline")
    try:
        start, sent = time.monotonic() + 0.1, {}
        for number, (sweep, cloud) in enumerate(zip(sweeps, clouds, strict=True)):
            time.sleep(max(0.0, start + number / RATE - time.monotonic()))
            sent[sweep.stamp] = start + number / RATE
            node.submit(sweep, cloud)
        node.wait(len(sweeps))
        latency = np.array([node.answered[stamp] - at for stamp, at in sent.items()])
        counters = node.pipeline.status.counters
        steps = counters.accepted + counters.rejected
        node.answered.clear()
        began = time.monotonic()
        for count, (sweep, cloud) in enumerate(zip(sweeps, clouds, strict=True), 1):
            node.submit(sweep, cloud)
            node.wait(count)
        rate = len(sweeps) / (time.monotonic() - began)
    finally:
        node.close()
    return latency * 1e3, len(sweeps), steps, -(-len(sweeps) // stride) if stride else 0, rate


if __name__ == "__main__":
    command("latency", __doc__, run, show)
