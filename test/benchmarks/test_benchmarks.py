"""Every benchmark runs and has finite figures to show; not how fast."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from rich.console import Console

PROJECT = Path(__file__).resolve().parents[2]
NAMES = ("clouds", "projection", "matching", "motion", "overhead", "latency", "prediction", "scaling", "memory",
         "loading", "injection")


def script(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(PROJECT / "benchmarks"), *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", [*NAMES, "trade"])  # `make bench` leaves the trade out
def test_a_quick_run_has_finite_figures_to_show(name, load_benchmark):
    if name in ("overhead", "latency"):
        pytest.importorskip("rclpy")
    benchmark = load_benchmark(name)
    rows = benchmark.run(quick=True)
    assert rows
    for row in rows:
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float)), row
    console = Console(width=80, record=True)
    console.print(benchmark.show(rows))
    assert "…" not in console.export_text(), "the table does not fit 80 columns"


def test_the_trade_shows_each_run_in_one_line_with_the_settings_that_differ(load_benchmark):
    same = {"bn_momentum": 0.005, "crop": 6.4, "guard": "on"}
    figures = {"all": 44.8, "gain": -10.9, "seen": 41.2, "worst": "other-objects -12.3", "ms per sweep": 1234.0}
    choices = product((1, 5), (1, 16), (1, 4), (0.1, 0.299))
    rows = [dict(zip(("stride", "steps", "rotations", "learning_rate"), each, strict=True)) | same | figures
            for each in choices]  # fmt: skip
    console = Console(width=80, record=True)
    console.print(load_benchmark("trade").show(rows))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert lines[1] + lines[2] == [
        "ms", "per", "stride", "steps", "turns", "lr", "all", "gain", "seen", "worst", "class", "sweep"
    ]  # fmt: skip
    assert lines[4] == ["1", "1", "1", "0.1", "44.8", "-10.9", "41.2", "other-objects", "-12.3", "1234"]
    assert len(lines[4:]) == len(rows)


def test_the_command_writes_the_figures_of_those_that_are_named(tmp_path):
    shown = script("projection", "--quick", cwd=tmp_path)
    assert "fisheye" in shown
    written = json.loads((tmp_path / "bench_output" / "bench.json").read_text())
    assert set(written) == {"machine", "projection"}
    assert written["projection"][0]["camera"] == "pinhole"


def test_help_names_every_benchmark(tmp_path):
    shown = script("--help", cwd=tmp_path)
    assert [name for name in NAMES if name not in shown] == []


def test_the_median_is_of_each_contender_alone(load_benchmark):
    clock = iter(range(1000))
    slow = lambda _: [next(clock) for _ in range(10)]  # noqa: E731
    seconds = load_benchmark("common").medians({"slow": slow, "fast": lambda _: None}, 5, lambda: next(clock))
    assert seconds == {"slow": 11, "fast": 1}


def test_no_two_calls_get_the_same_number(load_benchmark):
    numbers = []
    load_benchmark("common").medians({"one": numbers.append, "other": numbers.append}, 4)
    assert sorted(numbers) == list(range(8))


def test_a_drive_that_is_too_short_is_refused_in_one_line(tmp_path):
    command = [sys.executable, str(PROJECT / "benchmarks" / "guard.py"), "--sweeps", "150"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("guard: sweeps is 150, expected more than")
    assert "Traceback" not in done.stderr
