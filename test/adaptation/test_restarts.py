import pytest

from tttkd_ros.adaptation.restarts import RestartBudget


@pytest.fixture
def now():
    return [1000.0]


@pytest.fixture
def budget(now):
    return RestartBudget(3, 600.0, clock=lambda: now[0])


def deaths(budget, now, *pauses):
    """Whether each may be followed by a restart. pauses: seconds before each death."""
    allowed = []
    for pause in pauses:
        now[0] += pause
        allowed.append(budget.take())
    return allowed


def test_three_deaths_in_a_row_are_allowed_and_the_fourth_is_not(budget, now):
    assert deaths(budget, now, 1, 1, 1, 1, 1) == [True, True, True, False, False]


@pytest.mark.parametrize(("quiet", "earned"), [(599, 0), (600, 1), (1199, 1), (1200, 2), (1800, 3), (10**6, 3)])
def test_time_without_a_death_earns_restarts_back(budget, now, quiet, earned):
    deaths(budget, now, 1, 1, 1, 1)
    assert deaths(budget, now, quiet, 1, 1, 1).count(True) == earned


def test_early_deaths_use_the_restarts_up(budget, now):
    assert deaths(budget, now, 0, 599, 599, 599) == [True, True, True, False]
    assert deaths(budget, now, 599, 601) == [False, True]


def test_the_wait_counts_from_the_last_death(budget, now):
    deaths(budget, now, 1, 1, 1, 1)
    assert budget.wait_s == 600
    now[0] += 250
    assert budget.wait_s == 350
    now[0] += 10**6
    assert budget.wait_s == 0


def test_a_restart_after_a_wait_is_spent(budget, now):
    deaths(budget, now, 1, 1, 1, 1)
    now[0] += 600
    budget.spend()
    assert deaths(budget, now, 1) == [False]


def test_refill_allows_all_restarts_again(budget, now):
    deaths(budget, now, 1, 1, 1, 1)
    budget.refill()
    assert deaths(budget, now, 1, 1, 1, 1) == [True, True, True, False]
