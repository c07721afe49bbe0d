import math

import pytest

from tttkd_ros.adaptation.config import RANGES, TTTConfig


@pytest.mark.parametrize("name", RANGES)
def test_values_outside_their_range_are_refused_by_name(name):
    low, high = RANGES[name]
    TTTConfig(**{name: low}), TTTConfig(**{name: high})
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{name} is {beyond!r}, expected"):
            TTTConfig(**{name: beyond})


@pytest.mark.parametrize("wrong", [2.5, True, "5", None, math.nan, math.inf])
def test_a_stride_must_be_a_whole_number(wrong):
    with pytest.raises(ValueError, match="stride"):
        TTTConfig(stride=wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, "0.1", None])
def test_a_learning_rate_must_be_a_number(wrong):
    with pytest.raises(ValueError, match="learning_rate"):
        TTTConfig(learning_rate=wrong)
