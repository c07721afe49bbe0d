import pytest

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import LEVELS, MAX_STRIDE_FACTOR, NEAR_WINDOW, RELAXED_WINDOW, Governor, Throttle

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


def test_far_from_the_deadline_nothing_is_throttled(drive):
    governor = Governor(0.1)
    drive(governor, [0.05] * 200)
    assert governor.throttle == Throttle()


def test_near_the_deadline_points_are_reduced_before_the_stride_grows(drive):
    governor, seen = Governor(0.1), []
    drive(governor, [0.095])
    for _ in range(4):
        drive(governor, [0.095])
        seen.append(governor.throttle)
    assert seen == [Throttle(1, 0.5), Throttle(2, 0.5), Throttle(4, 0.5), Throttle(8, 0.5)]


def test_the_throttle_ends_at_the_largest_stride_factor(drive):
    governor = Governor(0.1)
    drive(governor, [0.2] * (len(LEVELS) - 1))
    assert not governor.exhausted
    drive(governor, [0.2] * 5)
    assert governor.exhausted
    assert governor.throttle.stride_factor == MAX_STRIDE_FACTOR


def test_the_throttle_is_released_step_by_step(drive):
    governor = Governor(0.1)
    drive(governor, [0.2] * 3)
    drive(governor, [0.05] * (RELAXED_WINDOW - 1))
    assert governor.throttle == Throttle(2, 0.5)
    drive(governor, [0.05])
    assert governor.throttle == Throttle(1, 0.5)
    drive(governor, [0.05] * RELAXED_WINDOW)
    assert governor.throttle == Throttle()


def test_single_slow_sweeps_do_not_throttle(drive):
    governor = Governor(0.1)
    drive(governor, ([0.2] + [0.05] * (NEAR_WINDOW - 1)) * 20)
    assert governor.throttle == Throttle()


def test_few_tight_sweeps_do_not_keep_the_throttle(drive):
    governor = Governor(0.1)
    drive(governor, [0.2] * 2 + ([0.08] + [0.05] * 9) * (RELAXED_WINDOW // 10))
    assert governor.throttle == Throttle()
    drive(governor, [0.2] * 2 + ([0.08] * 2 + [0.05] * 8) * (RELAXED_WINDOW // 10) * 3)
    assert governor.throttle == Throttle(1, 0.5)


def test_the_default_deadline_is_the_sweep_period(drive):
    governor = Governor(0.0)
    assert governor.deadline_s == float("inf")
    drive(governor, [0.05] * 5)
    assert governor.deadline_s == pytest.approx(0.1)


def test_a_slow_replay_is_measured_by_its_arrivals(drive):
    governor = Governor(0.0)
    drive(governor, [0.4] * 20, slower=5.0)
    assert governor.deadline_s == pytest.approx(0.5)
    assert governor.throttle == Throttle()


@pytest.mark.parametrize("stamps", [(5e9, 1e9), (0, 3600e9), (7e9, 7e9)], ids=["back", "far ahead", "twice"])
def test_a_jump_in_time_is_no_period(stamps):
    governor = Governor(0.0)
    for place in range(9):
        governor.observe(place * PERIOD, place * 0.1, 0.01)
    for stamp in stamps:
        governor.observe(int(stamp), 1.0, 0.01)
    assert governor.deadline_s == pytest.approx(0.1)


def test_throttled_settings_stay_within_their_ranges():
    left = Throttle(64, 0.5).apply(TTTConfig(stride=900, kd_points=20))
    assert (left.stride, left.kd_points) == (1000, 16)
