"""The demo: its processes, its reading of recordings, and the whole of it in small."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tttkd_ros.demo.processes import Child, ChildError
from tttkd_ros.demo.run import MODES, run_demo
from tttkd_ros.demo.scores import latencies, percentiles
from tttkd_ros.evaluation.live_recordings import read_steps
from tttkd_ros.frame import Frame

SUMMARY = {"sweeps_sent", "sweeps_received", "miou_frozen", "miou_adapted", "miou_adapted_second_half",
           "steps_accepted", "latency_ms", "stride", "learning_rate"}


def sweeps(number):
    generator = np.random.default_rng(0)
    return [
        Frame(1000 + i, generator.normal(size=(50, 3)).astype(np.float32),
              labels=generator.integers(0, 10, 50).astype(np.uint8))
        for i in range(number)
    ]


def test_latency_runs_from_sending_to_arrival(tmp_path, record_answers):
    drive = sweeps(3)
    recording = record_answers(tmp_path / "bag", drive, arrived=lambda stamp: 5_000_000 + stamp * 1_000_000)
    measured = latencies(recording, [f.stamp for f in drive], [f.stamp * 1_000_000 for f in drive])
    assert measured.tolist() == [5.0, 5.0, 5.0]
    assert percentiles(measured) == {"p50": 5.0, "p95": 5.0, "p99": 5.0}


def test_a_prediction_for_a_sweep_that_was_not_sent_is_refused(tmp_path, record_answers):
    recording = record_answers(tmp_path / "bag", sweeps(2))
    with pytest.raises(ValueError, match="no sweep of the drive has the stamp 1001"):
        latencies(recording, [1000], [0])


def stubborn(tmp_path, monkeypatch):
    """A module that ignores being interrupted and terminated."""
    (tmp_path / "stubborn.py").write_text(
        "import signal, time\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n    signal.signal(number, signal.SIG_IGN)\n"
        "print('ready', flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tttkd_ros.demo.processes._SIGNAL_TIMEOUT_S", 0.2)
    return "stubborn"


def test_a_child_that_ignores_signals_is_killed(tmp_path, monkeypatch):
    with Child(stubborn(tmp_path, monkeypatch), [], tmp_path / "log", domain=1) as child:
        child.wait_for(lambda: "ready" in child.output(), "ready", 20)
    assert not child.running


def test_a_child_that_fails_is_quoted(tmp_path):
    with Child("no_such_module_here", [], tmp_path / "log", domain=1) as child, pytest.raises(ChildError) as failure:
        child.wait_for(lambda: False, "ready", 20)
    assert "ended with code 1 before ready" in str(failure.value)
    assert "No module named no_such_module_here" in str(failure.value)


def test_a_folder_with_other_content_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="not an earlier demo's output"):
        run_demo(tmp_path, (1,), 10, tmp_path, model=tmp_path, teacher=tmp_path, processes=1)
    assert (tmp_path / "thesis.tex").exists()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A small student and a small teacher, both random."""
    import torch
    from tiny_teacher import save_tiny_teacher

    from tttkd_ros.segmenter.checkpoint import save_student
    from tttkd_ros.segmenter.student import Student, StudentConfig

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    student = Student(StudentConfig(options=dict(levels=3), voxel_size=0.2, teacher_dim=32, teacher_input=(70, 196)))
    save_student(student, folder / "student.safetensors", {"made": "for a test"})
    save_tiny_teacher(folder / "teacher", embed_dim=32)
    return {"model": folder / "student.safetensors", "teacher": folder / "teacher"}


@pytest.mark.timeout(600)  # on a busy machine: 3 nodes, 3 players, 3 recorders and 2 pools start one after another
def test_the_whole_demo_in_small(tmp_path, models):
    pytest.importorskip("rclpy")
    out = tmp_path / "out"
    run_demo(out, (5,), 12, tmp_path / "no_kitti", processes=2, **models)
    summary = json.loads((out / "summary.json").read_text())
    assert summary.keys() >= SUMMARY
    assert (summary["sweeps_sent"], summary["sweeps_received"]) == (12, 12)
    assert summary["every_run_answered_in_full"]
    live = summary["drives"][0]["live"]
    assert set(live) == set(MODES)
    taken = {mode: read_steps(out / "runs" / f"5_{mode}" / "recording") for mode in live}
    for mode, run in live.items():  # tried, not accepted: the guard objects to random models, rightly
        assert run["steps_accepted"] + sum(run["rejections"].values()) == len(taken[mode])
    # The strides in force: a busy machine may stretch them later.
    assert {mode: min((step.stride for step in tried), default=None) for mode, tried in taken.items()} == {
        "frozen": None, "adapted": 5, "stride_1": 1
    }
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    for name in ("sweep", "overlay", "miou_over_time"):
        assert min(Image.open(out / f"{name}.png").size) > 600
    assert (out / "runs" / "5_adapted" / "recording" / "metadata.yaml").exists()


def test_interrupting_the_demo_leaves_no_process_behind(tmp_path, models):
    pytest.importorskip("rclpy")
    script = (
        "from pathlib import Path\nfrom tttkd_ros.cli.demo import demo\nif __name__ == '__main__':\n"
        f"    demo(out=Path({str(tmp_path / 'out')!r}), seeds=(5,), sweeps=60, kitti=Path('none'),\n"
        f"         model=Path({str(models['model'])!r}), teacher=Path({str(models['teacher'])!r}))\n"
    )
    (tmp_path / "run.py").write_text(script)
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    demo = subprocess.Popen([sys.executable, tmp_path / "run.py"], env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    player = tmp_path / "out" / "runs" / "5_frozen" / "sent.csv"
    deadline = time.monotonic() + 200
    while not player.exists() and demo.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    demo.terminate()
    output, _ = demo.communicate(timeout=80)
    assert player.exists(), output
    assert demo.returncode != 0
    assert "KeyboardInterrupt" in output
    ours = [p for p in Path("/proc").glob("[0-9]*/cmdline") if str(tmp_path).encode() in _read(p)]
    assert ours == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
