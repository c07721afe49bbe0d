"""The watch over the answers has an eye for every fault."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice

import pytest

pytest.importorskip("rclpy")

from tttkd_ros.messages.point_cloud import decode_cloud  # noqa: E402
from tttkd_ros.ros.outputs import labelled_cloud  # noqa: E402

from .clouds import Sweep, sweeps  # noqa: E402
from .watch import Watch  # noqa: E402

PERIOD = 40_000_000


def answer(sweep: Sweep):
    import numpy as np

    cloud = decode_cloud(sweep.message)
    count = len(cloud.points)
    labels, confidence = np.zeros(count, np.uint8), np.ones(count, np.float32)
    return deepcopy(labelled_cloud(sweep.message, cloud, labels, confidence, np.zeros((256, 3), np.uint8)))


@pytest.fixture
def sent() -> list[Sweep]:
    return [sweep for sweep in islice(sweeps(0, PERIOD), 400) if sweep.expected is not None]


@pytest.fixture
def watch() -> Watch:
    return Watch(sweeps(0, PERIOD))


def test_what_can_be_answered_can_be_decoded_and_nothing_else():
    for sweep in islice(sweeps(0, PERIOD), 400):
        try:
            decode_cloud(sweep.message)
        except (ValueError, AttributeError):  # the latter: bytes
            assert sweep.expected is None, sweep.kinds
        else:
            assert sweep.expected is not None, sweep.kinds


def test_right_answers_pass_and_some_may_be_missing(watch, sent):
    for sweep in sent[::2]:
        watch.check(answer(sweep))
    assert watch.problems == []
    assert watch.answers == len(sent[::2])


def test_an_answer_that_comes_twice(watch, sent):
    watch.check(answer(sent[0]))
    watch.check(answer(sent[0]))
    assert watch.problems == ["the answer lidar_0: a second time"]


def test_answers_that_change_places(watch, sent):
    for sweep in (sent[0], sent[2], sent[1]):
        watch.check(answer(sweep))
    assert watch.problems == [f"the answer lidar_{sent[1].number}: after that to {sent[2].number}"]


@pytest.mark.parametrize("frame", ["lidar", "lidar_-1", "lidar_1000000"])
def test_an_answer_to_nothing(watch, sent, frame):
    wrong = answer(sent[0])
    wrong.header.frame_id = frame
    watch.check(wrong)
    assert watch.problems == [f"the answer {frame}: to nothing that was sent"]


def test_an_answer_to_a_cloud_that_has_none(watch, sent):
    damaged = next(sweep for sweep in sweeps(0, PERIOD) if sweep.expected is None)
    wrong = answer(sent[0])
    wrong.header.frame_id = f"lidar_{damaged.number}"
    watch.check(wrong)
    assert "to a cloud that has none" in watch.problems[0]


def another_stamp(message):
    message.header.stamp.nanosec += 1


def another_shape(message):
    message.width, message.height = message.height, message.width


def other_fields(message):
    message.fields = message.fields[1:]


def another_point(message):
    message.data[-message.point_step] ^= 1


def fewer_bytes(message):
    message.data = message.data[:-1]


@pytest.mark.parametrize("change", [another_stamp, another_shape, other_fields, another_point, fewer_bytes])
def test_an_answer_that_differs(watch, sent, change):
    sweep = next(sweep for sweep in sent if len(sweep.expected) > 1)
    wrong = answer(sweep)
    change(wrong)
    watch.check(wrong)
    assert len(watch.problems) == 1
