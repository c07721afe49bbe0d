"""The governor beside a simulated node: a queue of sweeps and a worker that takes a step at a time."""

import pytest

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import LEVELS, MAX_STRIDE_FACTOR, WINDOW, Governor, Throttle

PERIOD = 100_000_000  # nanoseconds
PERIOD_S = 0.1


class Node:
    """Answers sweeps at 10 Hz in turn, drops the late ones, and steps as often as the governor allows.

    alone, beside: seconds of a prediction without and beside a step. step: seconds of a step.
    """

    def __init__(self, governor, stride=5):
        self.governor, self.stride = governor, stride
        self.sweep, self.done, self.due = 0, 0.0, -1000
        self.begin = self.end = 0.0  # of the last step
        self.latencies, self.levels = [], []

    def run(self, sweeps, alone=0.05, beside=0.05, step=0.25, slower=1.0):
        """slower: sweeps arrive this many times more slowly than they are stamped."""
        self.latencies, self.levels = [], []
        for _ in range(sweeps):
            self.sweep += 1
            arrived = self.sweep * PERIOD_S * slower
            started = max(arrived, self.done)
            if started - arrived > (PERIOD_S if self.governor.exhausted else 10 * PERIOD_S):  # ten fit into the queue
                continue
            beside_step = self.begin < started + alone and self.end > started
            self.done = started + (beside if beside_step else alone)
            self.latencies.append(self.done - arrived)
            self.governor.observe(self.sweep * PERIOD, arrived, self.latencies[-1], beside_step)
            self.levels.append(LEVELS.index(self.governor.throttle))
            if self.sweep - self.due >= self.stride * self.governor.throttle.stride_factor and self.end <= self.done:
                self.due, self.begin, self.end = self.sweep, self.done, self.done + step

    @property
    def share_near(self):
        """Of the last run's sweeps: the share that took over 90 % of a deadline of one period."""
        return sum(latency > 0.9 * PERIOD_S for latency in self.latencies) / len(self.latencies)


@pytest.fixture
def governor():
    return Governor(0.1)


@pytest.fixture
def node(governor):
    return Node(governor)


def throttle_fully(governor):
    """Every sweep is late and beside a step."""
    for sweep in range(WINDOW * len(LEVELS)):
        governor.observe((sweep - 1000) * PERIOD, (sweep - 1000) * PERIOD_S, 0.095, True)


def test_far_from_the_deadline_nothing_is_throttled(node, governor):
    node.run(200, alone=0.05, beside=0.07)
    assert set(node.levels) == {0}
    assert not governor.exhausted


@pytest.mark.parametrize("stride", [1, 5])
@pytest.mark.parametrize(("sweeps", "seconds"), [(1, 2.0), (10, 0.15)])
def test_a_slow_start_costs_two_levels_at_most_and_is_forgotten_within_seconds(governor, stride, sweeps, seconds):
    node = Node(governor, stride)
    node.run(sweeps, alone=seconds, beside=1.3 * seconds)
    node.run(4 * WINDOW)
    assert max(node.levels) <= 2
    assert node.levels[-1] == 0


def test_steps_that_make_sweeps_slow_lose_points_then_become_rarer(node, governor):
    node.run(4 * WINDOW, alone=0.06, beside=0.095)
    assert node.levels == [0] * (WINDOW - 1) + [1] * WINDOW + [2] * WINDOW + [3] * (WINDOW + 1)
    assert LEVELS[:4] == (Throttle(), Throttle(1, 0.5), Throttle(2, 0.5), Throttle(4, 0.5))


@pytest.mark.parametrize("stride", [1, 2, 5, 10])
@pytest.mark.parametrize(("beside", "step"), [(0.095, 0.25), (0.13, 0.25), (0.13, 0.5), (0.3, 0.3)])
def test_steps_give_way_until_few_sweeps_are_near_the_deadline_and_no_further(governor, stride, beside, step):
    node = Node(governor, stride)
    node.run(1000, alone=0.06, beside=beside, step=step)
    node.run(1000, alone=0.06, beside=beside, step=step)
    assert 0.02 < node.share_near < 0.4
    assert not governor.exhausted


def test_late_sweeps_that_only_waited_for_one_beside_a_step_are_held_against_the_step(node):
    node.run(300, alone=0.07, beside=0.35, step=0.1)  # ten sweeps wait for the one beside a step
    assert node.levels[-1] >= 3
    assert node.share_near < 0.7


@pytest.mark.parametrize(("alone", "beside"), [(0.095, 0.095), (0.095, 0.1), (0.11, 0.115)])
def test_predictions_that_are_as_slow_without_a_step_are_not_throttled_for(node, governor, alone, beside):
    node.run(500, alone, beside)
    assert set(node.levels) == {0}
    assert governor.slow_alone
    assert governor.exhausted  # late sweeps may be dropped


def test_a_queue_behind_one_slow_sweep_is_not_blamed_on_the_predictions(node, governor):
    node.run(1, alone=2.0)
    node.run(28, step=0.1)  # nine do not fit into the queue, and the rest completes a window
    assert node.levels[-1] == 0
    assert not governor.slow_alone
    assert governor.exhausted  # late sweeps may be dropped, because it does not help to throttle


def test_slow_predictions_that_steps_make_slower_still_are_relieved_of_most_of_them(node, governor):
    node.run(500, alone=0.098, beside=0.13)
    assert set(node.levels[-200:]) == {3}
    assert governor.slow_alone


def test_throttled_steps_return_if_predictions_become_slow_without_them(node, governor):
    node.run(300, alone=0.06, beside=0.12)
    assert node.levels[-1] == 3
    node.run(300, alone=0.12, beside=0.12)
    assert node.levels[-1] <= 1
    assert governor.slow_alone


def test_a_step_at_every_sweep_is_throttled_until_there_is_a_comparison(governor):
    node = Node(governor, stride=1)
    node.run(500, alone=0.095, beside=0.095)
    assert set(node.levels[-200:]) == {3}  # stride 4: a step takes three sweeps
    assert governor.slow_alone


def test_the_throttle_ends_at_the_largest_stride_factor(governor):
    throttle_fully(governor)
    assert governor.throttle.stride_factor == MAX_STRIDE_FACTOR
    assert governor.exhausted
    assert not governor.slow_alone


def test_a_busy_moment_that_slows_every_sweep_costs_no_step(node, governor):
    node.run(5 * WINDOW)
    node.run(3 * WINDOW, alone=0.12, beside=0.125)
    assert governor.slow_alone
    assert set(node.levels) == {0}
    node.run(3 * WINDOW)
    assert set(node.levels) == {0}
    assert not governor.slow_alone


@pytest.mark.parametrize("stride", [1, 5])
def test_the_throttle_is_released_by_a_level_every_window(governor, stride):
    throttle_fully(governor)
    node = Node(governor, stride)
    node.run(WINDOW * len(LEVELS))
    assert node.levels[WINDOW - 1::WINDOW] == [*range(len(LEVELS) - 2, -1, -1), 0]


def test_the_throttle_is_released_if_steps_make_no_difference(node, governor):
    throttle_fully(governor)
    node.run(300, alone=0.08, beside=0.085)  # not near the deadline, nor far from it
    assert node.levels[-1] == 0


def test_the_throttle_is_kept_if_more_steps_would_make_sweeps_slow_again(node):
    node.run(300, alone=0.06, beside=0.095)
    node.run(500, alone=0.06, beside=0.085)
    assert set(node.levels) == {3}


def test_a_few_slow_sweeps_do_not_throttle(governor):
    for sweep in range(50 * WINDOW):
        slow = sweep % WINDOW in (3, 8, 13)
        governor.observe(sweep * PERIOD, sweep * PERIOD_S, 0.095 if slow else 0.05, slow)
    assert governor.throttle == Throttle()


def test_steps_that_make_sweeps_queue_up_are_throttled_before_a_long_deadline():
    node = Node(Governor(2 * PERIOD_S))
    node.run(500, alone=0.08, beside=0.14)  # three sweeps of five take longer than the period
    node.run(500, alone=0.08, beside=0.14)
    assert min(node.levels) >= 2
    assert max(node.latencies) < 0.2


def test_sweeps_that_something_else_makes_slow_at_times_are_not_throttled_for(governor):
    """Every other sweep is slow, beside a step or not."""
    for sweep in range(50 * WINDOW):
        governor.observe(sweep * PERIOD, sweep * PERIOD_S, 0.095 if sweep % 2 else 0.05, sweep % 5 < 3)
    assert governor.throttle == Throttle()


@pytest.mark.parametrize(("alone", "level"), [(4, 1), (5, 0)])
def test_a_comparison_takes_five_sweeps_without_a_step(governor, alone, level):
    for sweep in range(WINDOW):
        governor.observe(sweep * PERIOD, sweep * PERIOD_S, 0.095, sweep >= alone)
    assert governor.throttle == LEVELS[level]


def test_a_generous_deadline_leaves_room_for_slow_sweeps(governor):
    node = Node(Governor(1.0))
    node.run(300, alone=0.06, beside=0.13)
    assert set(node.levels) == {0}


def test_the_default_deadline_is_the_sweep_period():
    governor = Governor(0.0)
    assert governor.deadline_s == float("inf")
    Node(governor).run(5)
    assert governor.deadline_s == pytest.approx(PERIOD_S)


def test_a_slow_replay_is_measured_by_its_arrivals():
    node = Node(Governor(0.0))
    node.run(100, alone=0.4, beside=0.4, slower=5.0)
    assert node.governor.deadline_s == pytest.approx(0.5)
    assert not node.governor.slow_alone


@pytest.mark.parametrize("stamps", [(5e9, 1e9), (0, 3600e9), (7e9, 7e9)], ids=["back", "far ahead", "twice"])
def test_a_jump_in_time_is_no_period(stamps):
    governor = Governor(0.0)
    for place in range(9):
        governor.observe(place * PERIOD, place * 0.1, 0.01, False)
    for stamp in stamps:
        governor.observe(int(stamp), 1.0, 0.01, False)
    assert governor.deadline_s == pytest.approx(0.1)


def test_sweeps_of_one_stamp_and_one_arrival_do_no_harm():
    governor = Governor(0.0)
    for _ in range(2 * WINDOW):
        governor.observe(7, 1.0, 0.0, True)
        governor.observe(7, 1.0, 0.0, False)
    assert governor.deadline_s == 0


def test_throttled_settings_stay_within_their_ranges():
    left = Throttle(64, 0.5).apply(TTTConfig(stride=900, kd_points=20))
    assert (left.stride, left.kd_points) == (1000, 16)
