"""`tttkd benchmark` with tiny random models on short drives. Most trials run in the test's own process."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.cli.benchmark import benchmark
from tttkd_ros.datasets.parts import SimulatedPart
from tttkd_ros.evaluation import trials
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.store import Store
from tttkd_ros.evaluation.trials import Setup, benchmark_inputs, run_trials
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.simulation.drive import PERIOD
from tttkd_ros.simulation.shifts import shifted_frames

SWEEPS = 3
RUNS = (RunConfig("frozen"), RunConfig("tent"))
SHIFTS = ("kitti", "fog")
TRIALS = {f"{shift}-7": SimulatedPart(shift, 7, SWEEPS, OUTDOOR, shifted=True, period=PERIOD) for shift in SHIFTS}
FIRST = {"kitti-7": TRIALS["kitti-7"]}
PATIENCE = 60  # seconds until a test that hangs fails
# Two workers that say that they are at work, and never finish it.
ENDLESS = """
import time

def work(job):
    print(job, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    from tttkd_ros.evaluation import trials
    from tttkd_ros.subprocesses import interruptible

    trials._run = work
    with interruptible():
        list(trials._on_this_machine(["first", "second"], 2))
"""


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setattr(trials, "_on_this_machine", lambda jobs, processes: (trials._run(job) for job in jobs))


@pytest.fixture
def setup(tiny):
    return Setup(RUNS, tiny.model, str(tiny.teacher), engine="eager")


@pytest.fixture
def make_store(tmp_path, setup):
    return lambda name: Store(tmp_path / name, benchmark_inputs(TRIALS, setup))


@pytest.fixture
def command(tiny):
    return partial(benchmark, model=tiny.model, teacher=str(tiny.teacher), engine="eager", sweeps=SWEEPS, jobs=1)


def contents(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and "timing" not in path.name}  # fmt: skip


def test_a_trial_is_every_method_on_the_drive_of_that_shift_and_seed(setup, make_store, tiny):
    (found,) = run_trials({"fog-7": TRIALS["fog-7"]}, setup, make_store("out"), 1).values()
    drive = list(shifted_frames("fog", 7, SWEEPS))
    for result, method in zip(found, RUNS, strict=True):
        alone = replay(drive, load_student(tiny.model), run=method)
        assert np.array_equal(result.matrices, alone.matrices)


def test_the_labels_are_compared_with_those_of_the_frozen_student(setup, make_store):
    frozen, tent = run_trials(FIRST, setup, make_store("out"), 1)["kitti-7"]
    assert frozen.agreement is None
    assert 0 < tent.agreement[:, 0].sum() < tent.agreement[:, 1].sum()


def test_finished_trials_are_not_run_again(setup, make_store, monkeypatch):
    before = run_trials(TRIALS, setup, make_store("out"), 1)
    monkeypatch.setattr(trials, "_run", None)
    after = run_trials(TRIALS, setup, make_store("out"), 1)
    assert [[result.miou() for result in results] for results in after.values()] == [
        [result.miou() for result in results] for results in before.values()
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_continues_to_the_same_files(command, tmp_path, monkeypatch, number):
    run = trials._run

    def interrupted(job):
        if job.trial == "fog-7":
            signal.raise_signal(number)
        return run(job)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trials, "_run", interrupted)
        command(tmp_path / "out", shift=SHIFTS, seeds=(7,), method=("tent",))
    assert not (tmp_path / "out" / "results.json").exists()
    command(tmp_path / "out", shift=SHIFTS, seeds=(7,), method=("tent",))
    command(tmp_path / "whole", shift=SHIFTS, seeds=(7,), method=("tent",))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_only_an_added_method_is_run_and_written(command, tmp_path, tiny, monkeypatch):
    chosen = {"shift": ("kitti",), "seeds": (7,)}
    command(tmp_path / "out", method=("tent", "ttt-kd-o"), **chosen)
    oracle = tiny.student(5)
    ran, written, replayed, write = [], [], trials.replay, Store.write

    def spy(drive, student, teacher, method, **hooks):
        ran.append(method.method)
        return replayed(drive, student, teacher, method, **hooks)

    with monkeypatch.context() as patch:
        patch.setattr(trials, "replay", spy)
        patch.setattr(Store, "write", lambda store, bag, run: (written.append(run.name), write(store, bag, run)))
        command(tmp_path / "out", method=("tent", "dua", "ttt-kd-o"), oracle=oracle, **chosen)
    assert ran == ["frozen", "oracle", "dua"]  # frozen for their labels to be compared with
    assert written == ["oracle", "dua"]
    command(tmp_path / "whole", method=("tent", "dua", "ttt-kd-o"), oracle=oracle, **chosen)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_only_a_missing_frozen_result_is_computed_again(setup, make_store):
    store = make_store("out")
    run_trials(FIRST, setup, store, 1)
    whole = contents(store.folder)
    store.path("kitti-7", "frozen").unlink()
    run_trials(FIRST, setup, store, 1)
    assert contents(store.folder) == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [({"model": Path("nowhere")}, "no model at nowhere"), ({"teacher": "nowhere"}, "no teacher at 'nowhere'"),
     ({"engine": "steam"}, "engine 'steam' is unknown"), ({"source_only": Path("nowhere")}, "no model at nowhere"),
     ({"method": ("xmuda",)}, "the one given has 16"),
     ({"shift": ("day-dark-day",), "sweeps": 2}, "sweeps is 2: .* needs at least 3")],
)
def test_what_would_end_every_trial_is_refused_before_the_folder_is_made(command, tmp_path, options, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        command(tmp_path / "out", **({"shift": ("kitti",), "seeds": (7,), "method": ("ttt-kd-o",)} | options))
    assert not (tmp_path / "out").exists()


def test_leaving_early_ends_the_processes_and_keeps_what_was_finished(setup, make_store, monkeypatch):
    inline = run_trials(FIRST, setup, make_store("inline"), 1)["kitti-7"]
    monkeypatch.undo()
    before, finished = set(active_children()), []

    def leave(trial, runs):
        finished.append((trial, runs))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(TRIALS, setup, make_store("out"), 1, on_runs=leave)
    assert set(active_children()) <= before
    assert finished == [("kitti-7", 2)]
    stored = [make_store("out").read("kitti-7", method.title) for method in RUNS]
    assert all(np.array_equal(one.matrices, other.matrices) for one, other in zip(inline, stored, strict=True))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_at_work_end_with_the_benchmark(tmp_path, number):
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, tmp_path / "endless.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert {process.stdout.readline(), process.stdout.readline()} == {"first\n", "second\n"}
        process.send_signal(number)
        process.communicate(timeout=PATIENCE)  # returns when the last process that has this output has ended
    assert process.returncode != 0


def test_a_folder_of_drives_of_another_length_is_refused(command, tmp_path):
    command(tmp_path / "out", shift=("kitti",), seeds=(7,), method=("frozen",))
    with pytest.raises(ValueError, match="sweeps: 3 then, 5 now"):
        command(tmp_path / "out", shift=("kitti",), seeds=(7,), method=("frozen",), sweeps=5)


def test_a_folder_of_runs_with_the_guard_is_refused_without(command, tmp_path):
    command(tmp_path / "out", shift=("kitti",), seeds=(7,), method=("frozen",))
    with pytest.raises(ValueError, match="guard: True then, False now"):
        command(tmp_path / "out", shift=("kitti",), seeds=(7,), method=("frozen",), guard=False)


def test_images_and_statistics_are_separated_without_the_guard(command, tmp_path):
    command(tmp_path / "out", shift=("kitti",), seeds=(7,), method=("ttt-kd-o",), control=("no-image",),
            bn_momentum=(0.0, 0.005), guard=False)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    runs = [run["summaries"][0] for run in results["shifts"]["kitti"]["runs"]]
    assert [run["run"].partition(", lr 0.3")[2] for run in runs[1:]] == [", bn 0.0", "", ", no-image"]
    assert [run["settings"]["guard"] for run in runs[1:]] == [False] * 3
    assert "--control no-image" in results["command"] and " --no-guard " in results["command"]


def test_the_table_is_printed_and_written(command, tmp_path, tiny, capsys):
    command(tmp_path / "out", shift=("source", "fog"), seeds=(7, 8), method=("tent",))
    shown, table = capsys.readouterr().out, (tmp_path / "out" / "table.md").read_text()
    assert "0 of 8 runs on 4 drives are finished, 8 to run" in shown
    assert re.search(r"^source-7: 2 of 8 runs, 0:\d\d:\d\d left$", shown, re.MULTILINE)
    assert re.search(r"^fog-8: 8 of 8 runs, 0:00:00 left$", shown, re.MULTILINE)
    assert table.splitlines()[0] == (
        "`tttkd benchmark results --shift source fog --method tent --seeds 7 8 --sweeps 3 "
        f"--model {tiny.model} --teacher {tiny.teacher} --engine eager`"
    )
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    fog = results["shifts"]["fog"]["runs"][1]
    assert fog["run"] == "tent, stride 5"
    assert len(fog["miou"]) == len(fog["summaries"]) == 2
    for text in (shown, table):
        assert f"{fog['mean']:.1f}±{fog['sd']:.1f}" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [({"seeds": ()}, "seeds is"), ({"seeds": (1, 1)}, "each once"), ({"seeds": (-1,)}, "below 0"),
     ({"jobs": 0}, "jobs"), ({"sweeps": 0}, "sweeps")],
)
def test_impossible_options_are_refused(command, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        command(tmp_path / "out", **({"shift": ("kitti",)} | options))


def test_missing_ray_is_an_error_with_the_remedy(command, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.util.multiprocessing", None)
    with pytest.raises(ValueError, match=r"pip install 'tttkd_ros\[ray\]'"):
        command(tmp_path / "out", shift=("kitti",), seeds=(7,), method=("tent",), ray="auto")
