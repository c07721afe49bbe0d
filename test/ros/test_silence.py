"""What is said of a topic on which nothing comes, by a clock of the test's own."""

from __future__ import annotations

import pytest

from tttkd_ros.ros.silence import Offer, Silence

RELIABLE, BEST_EFFORT = Offer("driver", True), Offer("driver", False)
LATCHED = Offer("driver", True, latched=True)
FAST_DDS = "rmw_fastrtps_cpp"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def silence(clock):
    return Silence(FAST_DDS, clock=clock)


def after(clock, silence, seconds, *offers):
    """What is said after so many seconds in which a look is taken each second."""
    for _ in range(seconds):
        said = silence.problem(offers)
        clock.now += 1
    return silence.problem(offers) or said


@pytest.mark.parametrize("offers", [(RELIABLE,), (BEST_EFFORT,), ()])
def test_at_first_nothing_is_wrong(clock, silence, offers):
    assert after(clock, silence, 4, *offers) == ""


def test_a_best_effort_publisher_that_is_not_heard_is_told_with_the_profile(clock, silence, monkeypatch):
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    said = after(clock, silence, 6, BEST_EFFORT)
    assert "a publisher (driver, best effort) is there, but nothing has come for 6 s" in said
    assert "FASTDDS_DEFAULT_PROFILES_FILE=/" in said
    assert "config/dds/fastdds.xml" in said
    assert "net.core.rmem_max" in said


@pytest.mark.parametrize(
    ("offers", "middleware", "words"),
    [((RELIABLE,), FAST_DDS, "--ipc=host"), ((LATCHED,), FAST_DDS, "let it send them again"),
     ((RELIABLE, BEST_EFFORT), FAST_DDS, "publishers (driver, reliable; driver, best effort) are there"),
     ((BEST_EFFORT,), "rmw_cyclonedds_cpp", "SocketReceiveBufferSize"),
     ((BEST_EFFORT,), "rmw_zenoh_cpp", "docs/networking.md")],
)
def test_the_remedy_follows_the_publisher_and_the_middleware(clock, offers, middleware, words):
    assert words in after(clock, Silence(middleware, clock=clock), 6, *offers)


def test_a_topic_that_has_fallen_silent_is_told_with_the_size_of_its_messages(clock, silence):
    silence.problem((BEST_EFFORT,))
    for _ in range(3):
        silence.arrived(1_900_000)
        clock.now += 0.1
    assert "after 3 messages, 1.9 MB the last, nothing has come for 6 s" in after(clock, silence, 6, BEST_EFFORT)


def test_messages_make_it_well_again(clock, silence):
    assert after(clock, silence, 6, RELIABLE)
    silence.arrived(100)
    assert silence.problem((RELIABLE,)) == ""


@pytest.mark.parametrize("period", [4, 10, 60])
def test_messages_that_come_seldom_are_waited_for(clock, silence, period):
    silence.problem((RELIABLE,))
    for _ in range(2):
        silence.arrived(100)
        clock.now += period
    assert silence.problem((RELIABLE,)) == ""
    clock.now += 3 * period + 5
    assert silence.problem((RELIABLE,))


def test_a_publisher_that_has_just_come_has_its_time(clock, silence):
    assert after(clock, silence, 60)
    assert after(clock, silence, 4, RELIABLE) == ""
    assert after(clock, silence, 6, RELIABLE)


def test_without_a_publisher_the_topics_of_the_type_are_told(clock, silence):
    assert "nobody has published it for 6 s: start the driver, and compare ROS_DOMAIN_ID" in after(clock, silence, 6)
    said = silence.problem((), lambda: ["/velodyne_points", "/ouster/points"])
    assert "remap it to one that is (/velodyne_points, /ouster/points)" in said


def test_of_a_calibration_one_message_is_enough(clock):
    silence = Silence(FAST_DDS, once=True, clock=clock)
    assert after(clock, silence, 60) == ""
    assert after(clock, silence, 6, RELIABLE)
    silence.arrived(400)
    assert after(clock, silence, 60, RELIABLE) == ""


def test_losses_are_counted_and_told_with_size_publisher_and_remedy(silence):
    silence.arrived(600_000)
    said = silence.loss(2, [BEST_EFFORT])
    assert "2 messages lost on the way (sent by driver, best effort, the last that came has 0.6 MB): start its" in said
    silence.loss(3, [])
    assert silence.lost == 5
