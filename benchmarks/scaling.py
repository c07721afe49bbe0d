"""Measure time against the number of points: decode, segment, encode, and one step of adaptation.

Shipped student and teacher, one thread each, wall clock. The clouds are those of a 64-ring LiDAR with a full view; the
image is simulated. segment is everything from points to labels. The step computes the guard's evidence without its
decision, and trains on the points of one camera of 72 degrees.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from common import Rows, command, medians, message, one_thread, spinning_lidar, table
from rich.table import Table

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.messages.cloud_encoding import encode_labelled
from tttkd_ros.messages.point_cloud import decode_cloud
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.voxels import voxelise
from tttkd_ros.simulation.drive import frames

SIZES = (10_000, 20_000, 50_000, 120_000, 250_000, 500_000)
STEP = TTTConfig(learning_rate=1e-5, guard=False)  # hardly any change: each step finds the same student


def run(quick: bool = False, rounds: int = 5) -> Rows:
    """One row for each number of points.

    Args:
        quick: Run briefly, only to check that it works.
        rounds: Repetitions, for the median.
    """
    with one_thread():
        student, teacher = load_models(engine="eager" if quick else "auto")
        segmenter, adapter = Segmenter(student), OnlineTTTKD(student, teacher)
        frame = next(frames("kitti", 0, 1))
        sizes = (500, 1000) if quick else SIZES
        return [_row(size, segmenter, adapter, student, frame, 1 if quick else rounds) for size in sizes]


def show(rows: Rows) -> Table:
    return table(
        "Time against the number of points, ms",
        rows,
        {
            "points": ("points", ",d"), "voxels": ("voxels", ",d"), "decode": ("decode_ms", ".3f"),
            "segment": ("segment_ms", ".1f"), "encode": ("encode_ms", ".3f"), "step": ("step_ms", ".1f"),
            "points trained on": ("trained", ",d"),
        },
    )  # fmt: skip


def _row(size: int, segmenter: Segmenter, adapter: OnlineTTTKD, student, frame, rounds: int) -> dict:
    points = spinning_lidar(size)
    frame = replace(frame, points=points, features={}, labels=None)
    sweep = message(points)
    intensity = decode_cloud(sweep).intensity
    prediction, palette = segmenter.segment(points), student.config.class_set.palette
    stages = {
        "decode": lambda _: decode_cloud(sweep),
        "segment": lambda _: segmenter.segment(points),
        "encode": lambda _: encode_labelled(points, prediction.labels, prediction.confidence, palette, intensity),
        "step": lambda _: adapter.step(frame, STEP),
    }
    report = adapter.step(frame, STEP)
    seconds = medians(stages, rounds, time.perf_counter)
    voxels = voxelise([torch.from_numpy(points)], student.config.voxel_size)
    return {
        "points": size, "voxels": len(voxels.indices), "trained": min(report.points, STEP.kd_points),
        **{f"{stage}_ms": value * 1e3 for stage, value in seconds.items()},
    }  # fmt: skip


if __name__ == "__main__":
    command("scaling", __doc__, run, show)
