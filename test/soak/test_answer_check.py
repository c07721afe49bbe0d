"""The check of the answers finds every kind of error."""

from __future__ import annotations

from copy import deepcopy
from itertools import islice

import pytest

pytest.importorskip("rclpy")

from tttkd_ros.messages.point_cloud import decode_cloud  # noqa: E402
from tttkd_ros.ros.outputs import labelled_cloud  # noqa: E402

from .answer_check import AnswerCheck  # noqa: E402
from .clouds import Sweep, sweeps  # noqa: E402

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
def checker() -> AnswerCheck:
    return AnswerCheck(sweeps(0, PERIOD))


def test_what_can_be_answered_can_be_decoded_and_nothing_else():
    for sweep in islice(sweeps(0, PERIOD), 400):
        try:
            decode_cloud(sweep.message)
        except (ValueError, AttributeError):  # the latter: bytes
            assert sweep.expected is None, sweep.kinds
        else:
            assert sweep.expected is not None, sweep.kinds


def test_right_answers_pass_and_some_may_be_missing(checker, sent):
    for sweep in sent[::2]:
        checker.check(answer(sweep))
    assert checker.problems == []
    assert checker.answers == len(sent[::2])


def test_an_answer_that_comes_twice(checker, sent):
    checker.check(answer(sent[0]))
    checker.check(answer(sent[0]))
    assert checker.problems == ["the answer lidar_0: a second time"]


def test_answers_that_change_places(checker, sent):
    for sweep in (sent[0], sent[2], sent[1]):
        checker.check(answer(sweep))
    assert checker.problems == [f"the answer lidar_{sent[1].number}: after that to {sent[2].number}"]


@pytest.mark.parametrize("frame", ["lidar", "lidar_-1", "lidar_1000000"])
def test_an_answer_to_nothing(checker, sent, frame):
    wrong = answer(sent[0])
    wrong.header.frame_id = frame
    checker.check(wrong)
    assert checker.problems == [f"the answer {frame}: to nothing that was sent"]


def test_an_answer_to_a_cloud_that_has_none(checker, sent):
    damaged = next(sweep for sweep in sweeps(0, PERIOD) if sweep.expected is None)
    wrong = answer(sent[0])
    wrong.header.frame_id = f"lidar_{damaged.number}"
    checker.check(wrong)
    assert "to a cloud that has none" in checker.problems[0]


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
def test_an_answer_that_differs(checker, sent, change):
    sweep = next(sweep for sweep in sent if len(sweep.expected) > 1)
    wrong = answer(sweep)
    change(wrong)
    checker.check(wrong)
    assert len(checker.problems) == 1
