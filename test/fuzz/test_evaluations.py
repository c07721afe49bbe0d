"""The folder of finished runs that an evaluation goes on from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tttkd_ros.evaluation.result import Result, Timing
from tttkd_ros.evaluation.store import Store, encode

INPUTS = {"code": "0ab1", "bags": ["bag"], "settings": {"limit": None, "seed": 0}}


@pytest.fixture
def finished():
    matrices = np.zeros((3, 2, 2, 3), np.int64)
    return Result(
        "ttt-kd-o", ("car", "road"), np.arange(3), matrices, {"stride": 5}, 2, 1, {"norm": 1}, ((1, 0.5),),
        np.zeros((3, 3), np.int64), np.zeros((3, 2), np.int64), samples={1: np.zeros(4, np.uint8)},
        timing=Timing(np.ones(3), np.ones(2)),
    )  # fmt: skip


def test_inputs_of_evaluations(fuzz_files):
    fuzz_files({"inputs.json": json.dumps(INPUTS)}, lambda folder: Store(folder, INPUTS))


def test_finished_runs(fuzz_files, folder, finished):
    store = Store(folder / "files", INPUTS)
    path = store.path("bag", finished.title).relative_to(folder / "files")
    about, timing = encode(finished, INPUTS["code"])

    def take(_) -> None:
        found = store.read("bag", finished.title)
        assert found is None or found.name is not None

    fuzz_files({str(path): about, str(path.with_suffix(".timing.npz")): timing}, take)
