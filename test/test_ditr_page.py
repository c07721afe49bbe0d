"""The commands of docs/ditr.md make and evaluate students of converted recordings, here of a few sweeps and steps."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
from outdoor_folders import write_semantickitti

from tttkd_ros.classes import load_class_set
from tttkd_ros.cli import main
from tttkd_ros.segmenter.checkpoint import load_student

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "ditr.md").read_text(encoding="utf-8")
SMALL_TRAINING = ["--options", "channels=4", "levels=2", "--voxel-size", "0.4", "--batch", "2", "--workers", "0",
                  "--steps", "2"]


def commands() -> list[list[str]]:
    block = re.search(r"^### On recordings\n.*?```bash\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)[1]
    return [shlex.split(line)[1:] for line in block.splitlines()]


def cloud(seed: int) -> np.ndarray:
    """(N, 4) points, of which the camera sees those ahead."""
    return np.random.default_rng(seed).uniform((-9, -4, -2, 0), (9, 4, 2, 1), (600, 4))


def test_both_students_come_from_converted_recordings(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for sequence in ("00", "08"):
        sweeps = [cloud(seed + int(sequence)) for seed in range(4)]
        write_semantickitti(tmp_path / "semantickitti", sequence, sweeps,
                            [np.where(sweep[:, 1] > 0, 10, 40) for sweep in sweeps],
                            "16 0 16 0 0 16 8 0 0 0 1 0", (16, 32))
    for command in commands():
        if command[0] == "convert":
            command[2] = "semantickitti"
        command = [str(tiny.teacher) if word == "my-teacher" else word for word in command]
        if command[0] == "train":
            command += [*SMALL_TRAINING, "--teacher-input", "28", "56"]
        monkeypatch.setattr("sys.argv", ["tttkd", *command])
        main()
    ditr, dditr = (load_student(Path(f"{name}_00.safetensors")) for name in ("ditr", "dditr"))
    assert ditr.config.injection == "decoder" and dditr.config.injection == ""
    assert ditr.config.class_set == dditr.config.class_set == load_class_set("semantickitti19")
    for name, controls in (("ditr", {None, "no-image"}), ("dditr", {None})):
        (bag,) = json.loads(Path(f"{name}_08", "results.json").read_text())["bags"]
        assert {result["settings"].get("control") for result in bag["results"]} == controls
        assert all(result["sweeps_with_truth"] == 4 for result in bag["results"])
