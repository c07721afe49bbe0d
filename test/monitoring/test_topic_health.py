"""What is reported about a topic that brings no messages, with a clock of the test's own."""

from __future__ import annotations

import pytest

from tttkd_ros.monitoring.topic_health import PublisherInfo, TopicHealth

RELIABLE, BEST_EFFORT = PublisherInfo("driver", True), PublisherInfo("driver", False)
LATCHED = PublisherInfo("driver", True, latched=True)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return TopicHealth("/points", "enlarge the buffer", clock=clock)


def after(clock, health, seconds, *publishers):
    """The problem after so many seconds with a check in each."""
    for _ in range(seconds):
        health.check(publishers)
        clock.now += 1
    problem = health.problem
    health.check(publishers)
    return health.problem or problem


@pytest.mark.parametrize("publishers", [(RELIABLE,), (BEST_EFFORT,), ()])
def test_a_short_silence_is_no_problem(clock, health, publishers):
    assert after(clock, health, 4, *publishers) == ""


@pytest.mark.parametrize(
    ("publishers", "words"),
    [((RELIABLE,), "a publisher (driver, reliable) is there, but nothing has come for 6 s: if it sends, its messages "
                   "are lost on the way: containers need --ipc=host"),
     ((BEST_EFFORT,), "a publisher (driver, best effort) is there, but nothing has come for 6 s: if it sends, its "
                      "messages are lost on the way: enlarge the buffer"),
     ((LATCHED,), "before this node started: send them again"),
     ((RELIABLE, BEST_EFFORT), "publishers (driver, reliable; driver, best effort) are there")],
)
def test_silence_is_reported_with_the_publishers_and_the_remedy(clock, health, publishers, words):
    assert words in after(clock, health, 6, *publishers)


def test_a_topic_that_has_fallen_silent_is_reported_with_the_size_of_its_messages(clock, health):
    health.check((BEST_EFFORT,))
    for _ in range(3):
        health.add_message(1_900_000)
        clock.now += 0.1
    assert "after 3 messages, 1.9 MB the last, nothing has come for 6 s" in after(clock, health, 6, BEST_EFFORT)


def test_a_message_ends_the_problem(clock, health):
    assert after(clock, health, 6, RELIABLE)
    health.add_message(100)
    health.check((RELIABLE,))
    assert health.problem == ""


@pytest.mark.parametrize("period", [4, 10, 60])
def test_messages_that_are_seldom_sent_are_waited_for(clock, health, period):
    health.check((RELIABLE,))
    for _ in range(2):
        health.add_message(100)
        clock.now += period
    health.check((RELIABLE,))
    assert health.problem == ""
    clock.now += 3 * period + 5
    assert health.check((RELIABLE,)) and health.problem
    assert not health.check((RELIABLE,)) and health.problem  # it has not just begun


def test_a_new_publisher_gets_time_to_send(clock, health):
    assert after(clock, health, 60)
    assert after(clock, health, 4, RELIABLE) == ""
    assert after(clock, health, 6, RELIABLE)


def test_without_a_publisher_other_topics_of_the_type_are_named(clock, health):
    assert "nobody has published it for 6 s: start the driver, and compare ROS_DOMAIN_ID" in after(clock, health, 6)
    health.check((), lambda: ["/velodyne_points", "/ouster/points"])
    assert "remap it to one that is published (/velodyne_points, /ouster/points)" in health.problem


def test_one_calibration_message_is_enough(clock):
    health = TopicHealth("/info", "", once=True, clock=clock)
    assert after(clock, health, 60) == ""
    assert after(clock, health, 6, RELIABLE)
    health.add_message(400)
    assert after(clock, health, 60, RELIABLE) == ""


def test_losses_are_counted_and_reported_with_publisher_size_and_remedy(health):
    health.add_message(600_000)
    assert health.add_losses(2, [BEST_EFFORT]) == (
        "2 messages lost on the way (sent by driver, best effort, the last received message has 0.6 MB): "
        "enlarge the buffer"
    )
    health.add_losses(3, [])
    assert health.lost == 5
