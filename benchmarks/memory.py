"""Measure memory over many sweeps of decode, segment and encode.

The clouds differ in size from sweep to sweep, as real ones do. The student is small and random, so that ten thousand
sweeps take about a minute. Held is resident memory (RSS). Growth counts from the end of the first tenth, the warm-up.

Aim: flat within 5 per cent.
"""

from __future__ import annotations

import numpy as np
import torch
from common import Rows, command, message, one_thread, resident_mib, spinning_lidar, table
from rich.table import Table

from tttkd_ros.messages.cloud_encoding import encode_labelled
from tttkd_ros.messages.point_cloud import decode_cloud
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig

CLOUDS = 32  # different ones


def run(quick: bool = False, sweeps: int = 10_000, points: int = 2_000, channels: int = 4) -> Rows:
    """One row for each tenth of the sweeps.

    Args:
        quick: Run briefly, only to check that it works.
        sweeps: How many.
        points: In the largest cloud; the smallest has half as many.
        channels: Of the student's first level; the one that ships has 16.
    """
    sweeps = 40 if quick else sweeps
    torch.manual_seed(0)
    options = dict(channels=channels, levels=2)
    student = Student(StudentConfig(options=options, voxel_size=0.5, head_width=8, teacher_dim=8))
    segmenter, palette = Segmenter(student), student.config.class_set.palette
    sizes = np.random.default_rng(0).integers(points // 2, points, CLOUDS, endpoint=True)
    messages = [message(spinning_lidar(int(size), seed)) for seed, size in enumerate(sizes)]
    held = []
    with one_thread():
        for number in range(sweeps):
            cloud = decode_cloud(messages[number % CLOUDS])
            prediction = segmenter.segment(cloud.points)
            encode_labelled(cloud.points, prediction.labels, prediction.confidence, palette, cloud.intensity)
            if (number + 1) % (sweeps // 10) == 0:
                held.append((number + 1, resident_mib()))
    warm = held[0][1]
    return [{"sweeps": done, "rss_mib": now, "growth": now / warm - 1} for done, now in held]


def show(rows: Rows) -> Table:
    columns = {"sweeps": ("sweeps", ",d"), "held, MiB": ("rss_mib", ".1f"), "growth": ("growth", "+.2%")}
    return table("Memory; aim: flat within 5 %", rows, columns)


if __name__ == "__main__":
    command("memory", __doc__, run, show)
