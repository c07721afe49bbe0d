"""`tttkd evaluate --out` writes the same bytes each time, and an interrupted evaluation continues."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_teacher import save_tiny_teacher

from tttkd_ros.digests import digest
from tttkd_ros.evaluation import runs

METHODS = {
    "method": ("tent", "ttt-kd-o", "ttt-kd"), "stride": (1, 2), "learning_rate": (0.1, 1.0), "offline_steps": (2,),
}  # fmt: skip
TITLES = ["frozen", "tent, stride 1", "tent, stride 2", "ttt-kd-o, stride 1, lr 0.1", "ttt-kd-o, stride 1, lr 1.0",
          "ttt-kd-o, stride 2, lr 0.1", "ttt-kd-o, stride 2, lr 1.0", "ttt-kd, lr 0.1, steps 2",
          "ttt-kd, lr 1.0, steps 2"]  # fmt: skip


@pytest.fixture(autouse=True)
def without_a_page(monkeypatch):
    """The page takes seconds to make, contains times, and has tests of its own."""
    monkeypatch.setattr("tttkd_ros.evaluation.page.write_page", lambda *_: None)


@pytest.fixture(scope="module")
def bag(tiny, tmp_path_factory):
    return tiny.bag(tmp_path_factory.mktemp("bags") / "drive")


def contents(folder: Path) -> dict[str, bytes]:
    """All files without measured times."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and "timing" not in path.name}  # fmt: skip


def load(path: Path):
    return json.loads(path.read_text())


@pytest.fixture
def spied(monkeypatch):
    """Titles of the runs that are computed instead of read."""
    titles, replay = [], runs.replay

    def spy(drive, student, teacher, method, **options):
        titles.append(method.title)
        return replay(drive, student, teacher, method, **options)

    monkeypatch.setattr(runs, "replay", spy)
    return titles


def test_two_evaluations_write_the_same_results_and_times_to_other_files(run, bag, tmp_path):
    for name in ("one", "two"):
        run(bag, out=tmp_path / name, **METHODS)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    results = load(tmp_path / "one" / "results.json")["results"]
    assert [result["run"] for result in results] == TITLES
    timing = load(tmp_path / "one" / "timing.json")["results"]
    assert [each["run"] for each in timing] == TITLES
    assert all(each["latency_ms"]["p50"] > 0 and each["predictions_per_second"] > 0 for each in timing)
    assert [each["seconds_per_step"] is None for each in timing] == [True] + [False] * 8
    with (tmp_path / "one" / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["bag"], line["run"]) for line in lines] == [(bag, title) for bag in ("drive", "all")
                                                              for title in TITLES]  # fmt: skip
    assert [float(line["miou"]) for line in lines[:9]] == [result["miou"] for result in results]
    assert (lines[3]["learning_rate"], lines[1]["learning_rate"]) == ("0.1", "")


def test_finished_runs_are_read_and_new_ones_added(run, bag, tmp_path, spied):
    run(bag, out=tmp_path / "out", method=("tent",), stride=(2,))
    first = contents(tmp_path / "out")
    run(bag, out=tmp_path / "out", method=("tent",), stride=(2,))
    assert contents(tmp_path / "out") == first
    run(bag, out=tmp_path / "out", method=("tent", "dua"), stride=(2, 3))
    assert spied == ["frozen", "tent, stride 2", "tent, stride 3", "dua, stride 2", "dua, stride 3"]


@pytest.mark.parametrize("sweep", [1, 15])
def test_an_interrupted_evaluation_continues_to_the_same_bytes(run, bag, tmp_path, monkeypatch, spied, sweep):
    methods = {"method": ("dua", "ttt-kd-o"), "stride": (1,), "learning_rate": (1.0,)}
    run(bag, out=tmp_path / "whole", **methods)
    whole, seen = runs.replay, []
    with monkeypatch.context() as patch:

        def interrupted(*arguments, on_sweep, **options):
            def count(*sweep_given):
                seen.append(sweep_given)
                if len(seen) > sweep:
                    raise KeyboardInterrupt
                on_sweep(*sweep_given)

            return whole(*arguments, on_sweep=count, **options)

        patch.setattr(runs, "replay", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(bag, out=tmp_path / "out", **methods)
    spied.clear()
    run(bag, out=tmp_path / "out", **methods)
    assert len(spied) == 3 - sweep // 6
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_killed_evaluation_continues_to_the_same_bytes(run, tiny, bag, tmp_path, spied, monkeypatch):
    # With uncommitted changes, no two processes have the same version of the code.
    monkeypatch.setattr("tttkd_ros.evaluation.inputs.code_version", lambda: "test")
    methods = {"method": ("ttt-kd-o",), "stride": (1,), "learning_rate": (1.0,), "guard": False, "engine": "eager"}
    script = (
        "import os, signal\nfrom pathlib import Path\n"
        "from tttkd_ros.evaluation import inputs, runs\nfrom tttkd_ros.cli.evaluate import evaluate\n"
        "inputs.code_version = lambda: 'test'\n"
        "replay = runs.replay\n"
        "def killing(drive, student, teacher, method, on_sweep, reference):\n"
        "    def kill(frame, prediction):\n"
        "        on_sweep(frame, prediction)\n"
        "        if method.adapts and frame.stamp % 10**9 == 3 * 10**8:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return replay(drive, student, teacher, method, on_sweep=kill, reference=reference)\n"
        "runs.replay = killing\n"
        f"evaluate((Path({str(bag)!r}),), model=Path({str(tiny.model)!r}), teacher={str(tiny.teacher)!r},\n"
        f"         out=Path({str(tmp_path / 'out')!r}), **{methods!r})\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for name in ("out", "whole"):
        run(bag, out=tmp_path / name, **methods)
    assert spied == ["ttt-kd-o, stride 1, lr 1.0", "frozen", "ttt-kd-o, stride 1, lr 1.0"]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_runs_of_other_code_are_run_again(run, bag, tmp_path, spied, caplog, monkeypatch):
    for code in ("1.0", "1.0", "1.1"):
        monkeypatch.setattr("tttkd_ros.evaluation.inputs.code_version", lambda code=code: code)
        run(bag, out=tmp_path / "out", method=("dua",))
    assert spied == ["frozen", "dua, stride 5"] * 2
    assert "out holds runs of other code (1.0 then, 1.1 now): they are run again" in caplog.text


def test_missing_frozen_labels_are_computed_again(run, bag, tmp_path, spied):
    run(bag, out=tmp_path / "out", method=("dua",))
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "runs" / "drive" / "frozen.labels").write_bytes(b"short")
    spied.clear()
    run(bag, out=tmp_path / "out", method=("dua",))
    assert spied == ["frozen"] and contents(tmp_path / "out") == whole


@pytest.mark.parametrize("changes", ["another bag", "another model", "another setting"])
def test_a_folder_with_other_inputs_is_refused(run, tiny, bag, tmp_path, changes):
    run(bag, out=tmp_path / "out", method=("frozen",))
    before = contents(tmp_path / "out")
    if changes == "another bag":
        other, options, named = tiny.bag(tmp_path / "drive", tiny.frames(seed=1)), {}, "files.drive.drive.mcap: "
    elif changes == "another model":
        other, options, named = bag, {"model": tiny.student(1)}, "model: "
    else:
        other, options, named = bag, {"rotations": 2}, "settings.rotations: 1 then, 2 now"
    with pytest.raises(ValueError, match=f"out holds runs on other inputs .*{named}.*choose another folder"):
        run(other, out=tmp_path / "out", method=("frozen",), **options)
    assert contents(tmp_path / "out") == before


def test_several_bags_have_results_each_and_together(run, tiny, tmp_path, capsys):
    bags = [tiny.bag(tmp_path / name / "bag", tiny.frames(seed)) for seed, name in enumerate(("east", "west"))]
    run(*bags, out=tmp_path / "out", method=("ttt-kd-o",), stride=(1,), learning_rate=(1.0,))
    content = load(tmp_path / "out" / "results.json")
    assert [bag["bag"] for bag in content["bags"]] == ["east_bag", "west_bag"]
    alone = []
    for number, path in enumerate(bags):
        run(path, json_file=tmp_path / f"{number}.json", method=("ttt-kd-o",), stride=(1,), learning_rate=(1.0,))
        alone.append(load(tmp_path / f"{number}.json")["results"])
    assert [bag["results"] for bag in content["bags"]] == alone
    assert [result["sweeps"] for result in content["results"]] == [12, 12]
    assert "2 bags together: 12 sweeps" in capsys.readouterr().out


def test_a_bag_that_cannot_be_read_is_left_out_of_several(run, tiny, bag, tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    run(bag, tmp_path / "broken", json_file=tmp_path / "out.json", method=("frozen",))
    printed = " ".join(capsys.readouterr().err.split())
    assert "broken cannot be evaluated: " in printed and "no .mcap and no .db3 file" in printed
    content = load(tmp_path / "out.json")
    assert [result["sweeps"] for result in content["results"]] == [6]
    assert [(each["bag"], each["sweeps"]) for each in content["bags"]] == [("broken", 0), ("drive", 6)]


def test_without_truth_the_other_figures_are_reported(run, tiny, tmp_path, capsys):
    blind = tiny.bag(tmp_path / "bag", [replace(frame, labels=None) for frame in tiny.frames()])
    run(blind, json_file=tmp_path / "out.json", method=("ttt-kd-o",), stride=(1,), learning_rate=(1.0,))
    printed = capsys.readouterr()
    assert "bag has no truth: no IoU and no calibration" in " ".join(printed.err.split())
    assert "there is no truth" in " ".join(printed.out.split())
    frozen, adapted = load(tmp_path / "out.json")["results"]
    assert frozen["miou"] is adapted["miou"] is adapted["calibration_error"] is None
    assert 0 < adapted["agreement"] < 100 and abs(adapted["loss"]) < 1 and adapted["sweeps_with_truth"] == 0
    assert sum(adapted["predicted"].values()) == pytest.approx(100, abs=0.01)


def test_the_number_of_sweeps_with_truth_is_reported(run, tiny, tmp_path, capsys):
    frames = [replace(frame, labels=frame.labels if index < 4 else None) for index, frame in enumerate(tiny.frames())]
    run(tiny.bag(tmp_path / "bag", frames), method=("frozen",))
    assert "bag has truth for 4 of 6 sweeps" in " ".join(capsys.readouterr().err.split())


def test_an_impossible_run_is_left_out_with_the_reason(run, bag, tmp_path, capsys):
    run(bag, json_file=tmp_path / "out.json", method=("dua", "xmuda", "ttt-kd-o"))
    content = load(tmp_path / "out.json")
    assert [result["method"] for result in content["results"]] == ["frozen", "dua", "ttt-kd-o"]
    assert "the one given has 16" in content["left_out"]["xmuda, stride 5"]
    assert "drive, left out: xmuda, stride 5: " in " ".join(capsys.readouterr().err.split())


def test_without_a_teacher_the_methods_that_need_none_are_run(run, bag, tmp_path):
    run(bag, json_file=tmp_path / "out.json", method=("dua", "ttt-kd-o"), teacher=str(tmp_path / "nowhere"))
    content = load(tmp_path / "out.json")
    assert [result["method"] for result in content["results"]] == ["frozen", "dua"]
    assert "nowhere" in content["left_out"]["ttt-kd-o, stride 5, lr 0.3"]


@pytest.mark.parametrize("wrong", [{"teacher": "nowhere"}, {"engine": "steam"}])
def test_a_teacher_that_cannot_be_loaded_leaves_the_folder_to_the_right_one(run, bag, tmp_path, wrong):
    run(bag, out=tmp_path / "out", method=("ttt-kd-o",), **wrong)
    for name in ("out", "whole"):
        run(bag, out=tmp_path / name, method=("ttt-kd-o",))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_teacher_of_another_width_leaves_the_folder_to_the_right_one(run, tiny, bag, tmp_path, caplog):
    save_tiny_teacher(tmp_path / "wide", embed_dim=24)
    run(bag, out=tmp_path / "out", method=("dua", "ttt-kd-o"), teacher=str(tmp_path / "wide"))
    assert "the teacher has 24 features, but the student was trained with one of 16" in caplog.text
    run(bag, out=tmp_path / "out", method=("dua", "ttt-kd-o"))
    run(bag, out=tmp_path / "whole", method=("dua", "ttt-kd-o"))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_runs_with_a_teacher_are_not_reused_for_one_that_cannot_be_loaded(run, bag, tmp_path, caplog):
    run(bag, out=tmp_path / "out", method=("ttt-kd-o",))
    with pytest.raises(ValueError, match="teacher: .* then, None now"):
        run(bag, out=tmp_path / "out", method=("ttt-kd-o",), teacher="nowhere")
    assert "no teacher at 'nowhere'" in caplog.text


def test_students_of_other_trainings_are_run_beside_the_others(run, tiny, bag, tmp_path):
    others = {"source_only": tiny.student(2), "distilled": tiny.student(3), "oracle": tiny.student(4)}
    run(bag, out=tmp_path / "out", method=("frozen",), **others)
    results = load(tmp_path / "out" / "results.json")["results"]
    assert [result["method"] for result in results] == ["frozen", "source-only", "distilled", "oracle"]
    assert len({result["miou"] for result in results}) == 4
    assert all(result["steps_tried"] == 0 for result in results)
    assert load(tmp_path / "out" / "inputs.json")["distilled"] == digest(others["distilled"])


@pytest.mark.parametrize("name", ["source_only", "distilled", "oracle"])
def test_a_missing_student_of_another_training_is_named(run, bag, tmp_path, name):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(bag, **{name: tmp_path / "nowhere"})


def test_a_bag_cut_short_is_evaluated_up_to_the_cut(run, tiny, tmp_path, capsys):
    path = tiny.bag(tmp_path / "bag", tiny.frames(sweeps=120))
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 4])
    (path / "metadata.yaml").unlink()
    run(path, json_file=tmp_path / "out.json", method=("frozen",))
    (result,) = load(tmp_path / "out.json")["bags"]
    assert 5 < result["sweeps"] < 120 and [each["sweeps"] for each in result["results"]] == [result["sweeps"]]
    assert f"only the {result['sweeps']} sweeps that can be read are evaluated" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize("option", ["json_file", "rerun"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(run, bag, tmp_path, spied, monkeypatch, option):
    monkeypatch.setattr("tttkd_ros.evaluation.viewer.require_rerun", lambda: None)
    with pytest.raises(ValueError, match="is a folder: name a file"):
        run(bag, out=tmp_path / "out", method=("frozen",), **{option: tmp_path})
    assert spied == [] and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_refused(run, bag, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="sub cannot be written .Not a directory.: choose another folder"):
        run(bag, out=tmp_path / "file" / "sub", method=("frozen",))


def test_an_unknown_device_is_refused_before_anything_is_loaded(run, tmp_path):
    with pytest.raises(ValueError, match="device 'foo' is unknown"):
        run(tmp_path / "no bag", device="foo", model=tmp_path / "no model")


def test_nothing_to_evaluate_is_an_error(run, tiny, bag, tmp_path):
    wrong = [replace(frame, labels=frame.labels + 40) for frame in tiny.frames()]
    with pytest.raises(ValueError, match="left out: frozen; dua, stride 5: truth label 40 is not below 10"):
        run(tiny.bag(tmp_path / "bag", wrong), method=("dua",))
    with pytest.raises(ValueError, match="no bag or other source given"):
        run()
    with pytest.raises(FileNotFoundError, match="no model at"):
        run(bag, model=tmp_path / "nowhere", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
