"""Several processes train one student, on the CPU with gloo."""

import operator
from dataclasses import replace

import numpy as np
import pytest

from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.training.devices import Processes, launch
from tttkd_ros.training.student_training import train_student


def test_two_processes_train_like_one_with_twice_the_batch(tiny, tiny_config, tmp_path):
    """Not exactly like it: BatchNorm has the statistics of each process. One sweep has no image, so that a process has
    steps without a visible point."""
    frames = tiny.frames(1)
    for frame in frames:
        frame.labels[:] = frame.points[:, 2] > 0
    frames[2] = replace(frames[2], views=())
    data = (str(tiny.bag(tmp_path / "drive", frames)),)
    scores = []
    for processes in (1, 2):
        out = tmp_path / f"student_{processes}.safetensors"
        train_student(tiny_config(out, data=data, validation=data, features=("position",), epochs=20, save_every=100,
                                  batch=2 // processes, devices=processes, validate_every=20))
        segmenter = Segmenter(load_student(out))
        scores.append(np.mean([(segmenter.segment(frame.points).labels == frame.labels).mean() for frame in frames]))
    assert min(scores) > 0.8 and abs(scores[0] - scores[1]) < 0.1


def test_an_error_of_a_process_is_one_line():
    with pytest.raises(ChildProcessError, match="^TypeError: 'Fabric' object cannot be interpreted as an integer$"):
        launch(Processes("cpu", devices=2), operator.index)  # a function that every process can import


@pytest.mark.parametrize(("options", "message"), [
    (dict(devices=0), "devices is 0"), (dict(nodes=0), "nodes is 0"),
    (dict(accelerator="cuda", devices=64), "device 'cuda:63' asked for"),
    (dict(accelerator="cpu", precision="16-mixed"), "16-mixed, which needs a GPU"),
])
def test_processes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Processes(**options)
