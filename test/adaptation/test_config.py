import math

import pytest

from tttkd_ros.adaptation.config import RANGES, TTTConfig


@pytest.mark.parametrize("name", RANGES)
def test_limits_are_accepted_and_what_is_beyond_is_refused_by_name(name):
    low, high = RANGES[name]
    TTTConfig(**{name: low}), TTTConfig(**{name: high})
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{name} is {beyond!r}, expected"):
            TTTConfig(**{name: beyond})


@pytest.mark.parametrize("wrong", [2.5, True, "5", None, math.nan, math.inf])
def test_a_stride_that_is_no_whole_number_is_refused(wrong):
    with pytest.raises(ValueError, match="stride"):
        TTTConfig(stride=wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, "0.1", None])
def test_a_learning_rate_that_is_no_number_is_refused(wrong):
    with pytest.raises(ValueError, match="learning_rate"):
        TTTConfig(learning_rate=wrong)
