import logging

import numpy as np
import pytest

from tttkd_ros.evaluation.result import Result, Timing
from tttkd_ros.evaluation.store import Store, encode
from tttkd_ros.files import Unwritable
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.segmenter import Prediction

INPUTS = {"code": "1.0", "bags": ["a"], "settings": {"seed": 0}}


def result(**more):
    generator = np.random.default_rng(0)
    return Result(**({
        "name": "tent", "class_names": ("a", "b"), "stamps": np.arange(3) + 10**18,
        "matrices": generator.integers(0, 9, (3, 2, 2, 3)), "settings": {"stride": 5, "control": None},
        "steps_tried": 3, "steps_accepted": 2, "rejections": {"dark": 1}, "losses": ((10**18, 0.1), (10**18 + 1, 0.2)),
        "predicted": generator.integers(0, 9, (3, 3)), "agreement": generator.integers(0, 9, (3, 2)),
        "calibration": generator.random((15, 3)),
        "samples": {10**18: np.arange(5, dtype=np.uint8), 10**18 + 2: np.arange(2, dtype=np.uint8)},
        "timing": Timing(generator.random(3), generator.random(2)),
    } | more))  # fmt: skip


def frame(points):
    return Frame(7, np.zeros((points, 3), np.float32))


def prediction(*labels):
    return Prediction(np.array(labels, np.uint8), np.ones(len(labels), np.float32), 0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "out", INPUTS)


def test_a_result_is_read_as_it_was_written(store):
    store.write("a", result())
    read = store.read("a", "tent, stride 5")
    assert encode(read, "1") == encode(result(), "1")
    assert read.summary() == result().summary() and read.timing.summary() == result().timing.summary()
    assert {stamp: labels.tolist() for stamp, labels in read.samples.items()} == {
        10**18: [0, 1, 2, 3, 4], 10**18 + 2: [0, 1]
    }  # fmt: skip


def test_missing_parts_of_a_result_stay_missing(store):
    store.write("a", result(losses=(), predicted=None, agreement=None, samples={}))
    read = store.read("a", "tent, stride 5")
    assert (read.losses, read.predicted, read.agreement, read.samples) == ((), None, None, {})


def test_times_do_not_change_a_result_s_bytes():
    assert encode(result(), "1")[0] == encode(result(timing=Timing(np.ones(9), np.ones(9))), "1")[0]


def test_there_is_no_result_until_it_is_written(store):
    assert store.read("a", "tent, stride 5") is None


def test_a_damaged_result_is_not_read(store, caplog):
    store.write("a", result())
    path = store.path("a", "tent, stride 5")
    path.write_bytes(path.read_bytes()[:100])
    with caplog.at_level(logging.WARNING):
        assert store.read("a", "tent, stride 5") is None
    assert "is damaged" in caplog.text


def test_every_run_has_its_own_file(store):
    titles = ["ttt-kd-o, stride 5, lr 0.1", "ttt-kd-o, stride 5, lr 1.0", "ttt-kd-o, stride 50, lr 1.0"]
    assert len({store.path("a", title) for title in titles}) == 3


def test_inputs_may_be_added(tmp_path, store):
    Store(tmp_path / "out", INPUTS | {"teacher": "x"})
    Store(tmp_path / "out", INPUTS)
    with pytest.raises(ValueError, match="teacher: x then, y now"):
        Store(tmp_path / "out", INPUTS | {"teacher": "y"})


def test_other_inputs_are_refused_with_the_difference(tmp_path, store):
    with pytest.raises(ValueError, match=r"settings\.seed: 0 then, 1 now"):
        Store(tmp_path / "out", INPUTS | {"settings": {"seed": 1}})


def test_a_folder_with_other_content_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds no evaluation"):
        Store(tmp_path, INPUTS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_labels_are_read_sweep_by_sweep(store):
    labels = store.labels("a")
    with labels.write() as write:
        write(frame(2), prediction(1, 2))
        write(frame(0), prediction())
        write(frame(3), prediction(3, 4, 255))
    assert labels.holds(5) and not labels.holds(4)
    with labels.read() as read:
        assert [read(frame(size)).tolist() for size in (2, 0, 3)] == [[1, 2], [], [3, 4, 255]]
        with pytest.raises(ValueError, match="ends before the sweep stamped 7"):
            read(frame(1))


def test_labels_of_a_failed_run_are_not_stored(store):
    labels = store.labels("a")
    with pytest.raises(KeyboardInterrupt), labels.write() as write:
        write(frame(2), prediction(1, 2))
        raise KeyboardInterrupt
    assert not labels.path.exists() and not labels.holds(2)


@pytest.mark.parametrize("sweeps", [1, 3, 2000])
def test_labels_on_a_full_disk_are_refused_with_the_path_and_the_remedy(store, sweeps):
    labels = store.labels("a")
    labels.path.parent.mkdir(parents=True, exist_ok=True)
    labels.path.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(Unwritable) as refused, labels.write() as write:
        for _ in range(sweeps):
            write(frame(5), prediction(*range(5)))
    reason = "No space left on device): free space on that disk, or name a file on another one"
    assert str(refused.value) == f"{labels.path} cannot be written ({reason}"
    assert not labels.path.exists()
