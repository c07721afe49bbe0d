import pytest

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import LEVELS, MOST, RECENT, WINDOW, Governor, Share

PERIOD = 100_000_000  # nanoseconds


@pytest.fixture
def drive():
    """drive(governor, latencies, slower=1.0): sweeps at 10 Hz, arriving `slower` times more slowly than stamped."""
    clock = [0]

    def observe(governor, latencies, slower=1.0):
        for latency in latencies:
            clock[0] += 1
            governor.observe(clock[0] * PERIOD, clock[0] * 0.1 * slower, latency)

    return observe


def test_far_from_the_deadline_adaptation_keeps_all(drive):
    governor = Governor(0.1)
    drive(governor, [0.05] * 200)
    assert governor.share == Share()


def test_near_the_deadline_points_are_shed_first_and_then_the_stride_is_stretched(drive):
    governor, seen = Governor(0.1), []
    drive(governor, [0.095])
    for _ in range(4):
        drive(governor, [0.095])
        seen.append(governor.share)
    assert seen == [Share(1, 0.5), Share(2, 0.5), Share(4, 0.5), Share(8, 0.5)]


def test_when_all_is_shed_it_says_so_and_goes_no_further(drive):
    governor = Governor(0.1)
    drive(governor, [0.2] * (len(LEVELS) - 1))
    assert not governor.exhausted
    drive(governor, [0.2] * 5)
    assert governor.exhausted
    assert governor.share.stretch == MOST


def test_adaptation_is_given_back_step_by_step_after_a_quiet_time(drive):
    governor = Governor(0.1)
    drive(governor, [0.2] * 3)
    drive(governor, [0.05] * (WINDOW - 1))
    assert governor.share == Share(2, 0.5)
    drive(governor, [0.05])
    assert governor.share == Share(1, 0.5)
    drive(governor, [0.05] * WINDOW)
    assert governor.share == Share()


def test_a_slow_sweep_now_and_then_takes_nothing_from_adaptation(drive):
    governor = Governor(0.1)
    drive(governor, ([0.2] + [0.05] * (RECENT - 1)) * 20)
    assert governor.share == Share()


def test_a_tight_sweep_now_and_then_does_not_keep_adaptation_short(drive):
    governor = Governor(0.1)
    drive(governor, [0.2] * 2 + ([0.08] + [0.05] * 9) * (WINDOW // 10))
    assert governor.share == Share()
    drive(governor, [0.2] * 2 + ([0.08] * 2 + [0.05] * 8) * (WINDOW // 10) * 3)
    assert governor.share == Share(1, 0.5)


def test_without_a_deadline_of_its_own_it_takes_the_sweep_period(drive):
    governor = Governor(0.0)
    assert governor.deadline_s == float("inf")
    drive(governor, [0.05] * 5)
    assert governor.deadline_s == pytest.approx(0.1)


def test_a_replay_slower_than_its_stamps_has_the_time_that_it_takes(drive):
    governor = Governor(0.0)
    drive(governor, [0.4] * 20, slower=5.0)
    assert governor.deadline_s == pytest.approx(0.5)
    assert governor.share == Share()


@pytest.mark.parametrize("stamps", [(5e9, 1e9), (0, 3600e9), (7e9, 7e9)], ids=["back", "far ahead", "twice"])
def test_a_jump_in_time_is_no_period(stamps):
    governor = Governor(0.0)
    for place in range(9):
        governor.observe(place * PERIOD, place * 0.1, 0.01)
    for stamp in stamps:
        governor.observe(int(stamp), 1.0, 0.01)
    assert governor.deadline_s == pytest.approx(0.1)


def test_what_is_shed_stays_within_the_ranges():
    left = Share(64, 0.5).of(TTTConfig(stride=900, kd_points=20))
    assert (left.stride, left.kd_points) == (1000, 16)
