"""Messages that come by two subscriptions are told once each."""

from __future__ import annotations

import pytest

from tttkd_ros.messages.duplicates import MAX_REMEMBERED, DuplicateFilter

RELIABLE, BEST_EFFORT = 0, 1


@pytest.fixture
def duplicates():
    return DuplicateFilter()


@pytest.mark.parametrize("order", [(RELIABLE, BEST_EFFORT), (BEST_EFFORT, RELIABLE)])
def test_what_came_by_the_other_subscription_is_no_news(duplicates, order):
    first, second = order
    assert duplicates.is_new(first, b"a cloud")
    assert not duplicates.is_new(second, b"a cloud")


@pytest.mark.parametrize("other", [b"another cloud", b"a cloux", b"a clou"])
def test_other_bytes_are_news(duplicates, other):
    assert duplicates.is_new(RELIABLE, b"a cloud")
    assert duplicates.is_new(BEST_EFFORT, other)


def test_clouds_of_one_stamp_and_size_are_told_apart(duplicates):
    first, second = bytes(5000), bytes(2000) + bytes([1]) * 3000
    assert duplicates.is_new(RELIABLE, first)
    assert duplicates.is_new(BEST_EFFORT, second)


def test_what_is_sent_three_times_is_news_three_times(duplicates):
    came = [duplicates.is_new(way, b"a cloud") for way in (0, 0, 1, 1, 1, 0)]
    assert came == [True, True, False, False, True, False]


def test_losses_on_one_way_are_made_up_for_by_the_other(duplicates):
    by_reliable = [duplicates.is_new(RELIABLE, bytes([number])) for number in range(10)]
    by_best_effort = [duplicates.is_new(BEST_EFFORT, bytes([number])) for number in (3, 7)]
    assert all(by_reliable)
    assert not any(by_best_effort)


def test_the_reliable_one_may_be_hundreds_of_messages_behind(duplicates):
    messages = [number.to_bytes(4, "little") for number in range(MAX_REMEMBERED // 2)]
    assert all([duplicates.is_new(BEST_EFFORT, data) for data in messages])
    assert not any([duplicates.is_new(RELIABLE, data) for data in messages])
