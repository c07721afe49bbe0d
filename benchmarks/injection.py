"""What it costs a prediction that the student takes image features (DITR), by number of cameras.

A student with the shipped one's backbone and teacher, and random weights, labels sweeps of the simulated world with
four cameras. CPU time of one thread, medians. The teacher's pass and the rest, which is projection, pooling and the
larger network, are given by themselves. Memory: what the process grows by while it predicts with all cameras for the
first time, after it has predicted without.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from common import Rows, command, medians, one_thread, resident_mib, table
from rich.table import Table

from tttkd_ros.adaptation.targets import image_features, with_features
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student
from tttkd_ros.simulation.shifts import shifted_frames

SWEEPS = 10
CAMERAS = 0, 1, 2, 4


def run(quick: bool = False, rounds: int = 30) -> Rows:
    """One row for each number of cameras, and one for a student without injection.

    Args:
        quick: Run briefly, only to check that it works.
        rounds: Predictions of each, for the median.
    """
    sweeps = list(shifted_frames("four-cameras", 0, 2 if quick else SWEEPS))
    with one_thread():
        plain, teacher = load_models(engine="auto")
        torch.manual_seed(0)
        injecting = Student(replace(plain.config, injection="decoder", image_dim=plain.config.teacher_dim)).eval()
        segmenter, injected = Segmenter(plain), Segmenter(injecting)

        def frame(number: int, cameras: int):
            sweep = sweeps[number % len(sweeps)]
            return replace(sweep, views=sweep.views[:cameras])

        ready = {(number, cameras): with_features(frame(number, cameras), teacher)
                 for number in range(len(sweeps)) for cameras in CAMERAS}

        def rest(number: int, cameras: int) -> None:
            sweep = ready[number % len(sweeps), cameras]
            injected.segment(sweep.upright, images=image_features(sweep, teacher))

        def plain_prediction(number: int) -> None:
            segmenter.segment(sweeps[number % len(sweeps)].upright)

        plain_prediction(0)
        before = resident_mib()
        rest(0, CAMERAS[-1])
        memory = resident_mib() - before
        contenders = {"none": plain_prediction}
        for cameras in CAMERAS:
            contenders[f"rest {cameras}"] = lambda number, cameras=cameras: rest(number, cameras)
            if cameras:
                contenders[f"teacher {cameras}"] = lambda number, c=cameras: with_features(frame(number, c), teacher)
        seconds = medians(contenders, 2 if quick else rounds)
    alone = 1e3 * seconds["none"]
    rows = [{"student": "without injection", "ms": alone, "teacher_ms": 0.0, "rest_ms": alone, "times": 1.0,
             "memory_mib": 0.0}]
    for cameras in CAMERAS:
        passes, others = 1e3 * seconds.get(f"teacher {cameras}", 0.0), 1e3 * seconds[f"rest {cameras}"]
        rows.append({
            "student": f"{cameras} cameras", "ms": passes + others, "teacher_ms": passes, "rest_ms": others,
            "times": (passes + others) / alone, "memory_mib": memory if cameras == CAMERAS[-1] else 0.0,
        })  # fmt: skip
    return rows


def show(rows: Rows) -> Table:
    return table("A prediction with image features, one thread", rows, {
        "": ("student", ""), "ms": ("ms", ".0f"), "teacher": ("teacher_ms", ".0f"), "the rest": ("rest_ms", ".0f"),
        "times": ("times", ".2f"), "more memory, MiB": ("memory_mib", ".0f"),
    })  # fmt: skip


if __name__ == "__main__":
    command("injection", __doc__, run, show)
