import pytest

from tttkd_ros.messages.clocks import Lag, explain_clocks, image_time

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def explained(lag, offset=0.0, stamp=NOW):
    return explain_clocks(round(lag * SECOND), round(offset * SECOND), SECOND // 20, stamp)


@pytest.mark.parametrize(
    ("lag", "words", "offset"),
    [
        (-37.04, "37.0 s behind the sweeps (37 s is TAI against UTC)", "-37"),
        (37.0, "37.0 s ahead of the sweeps (37 s is TAI against UTC)", "37"),
        (17.9, "18.0 s ahead of the sweeps (18 s is GPS time against UTC)", "18"),
        (-7199.95, "7200.0 s behind the sweeps (2 h is a time zone against UTC)", "-7200"),
        (19800.3, "19800.0 s ahead of the sweeps (5.5 h is a time zone against UTC)", "19800"),
        (-12.4, "12.4 s behind the sweeps, the tolerance", "-12.4"),
        (99.98, "100.0 s ahead of the sweeps, the tolerance", "100"),
    ],
)
def test_clock_difference_has_its_name_and_the_offset(lag, words, offset):
    text = explained(lag)
    assert f"images are {words}" in text
    assert f"--offset {offset}, for the node matching.offsets: [{offset}" in text


@pytest.mark.parametrize(("lag", "offset", "corrected"), [(-74, 37, "-37"), (-1, -36, "-37"), (10, 8, "18")])
def test_present_offset_is_included(lag, offset, corrected):
    text = explained(lag, offset)
    assert f"the offset in force is {offset} s" in text and f"--offset {corrected}," in text


@pytest.mark.parametrize(("lag", "words"), [(-1.5, "matching.wait: 1.6 if images"), (2.5, "larger matching.depth")])
def test_short_lag_has_the_remedy_for_slow_transport_too(lag, words):
    assert words in explained(lag) and "matching." not in explained(20 * lag).partition("matching.offsets")[2]


@pytest.mark.parametrize("stamp", [12 * SECOND, 86400 * SECOND, NOW - 10**7 * SECOND])
def test_clock_that_was_never_set_is_reported_with_its_date(stamp):
    text = explained((NOW - stamp) / SECOND, stamp=stamp)
    assert "one clock is not set" in text and "images of 2023-11-14 22:13:20" in text and "synchronise" in text


@pytest.mark.parametrize(("offset", "shift"), [(SECOND // 20, 0), (-SECOND // 2, 0), (-37 * SECOND, 37 * SECOND)])
def test_long_offset_is_a_clock_difference_and_a_short_one_is_not(offset, shift):
    assert image_time(NOW, offset) == NOW + shift


def test_lag_is_the_median_of_the_last_scans():
    lag = Lag()
    for number, each in enumerate([5.0, 5.1, 5.9, 5.1, 5.2]):
        lag.add(number, round(each * SECOND))
    assert lag.apart == round(5.1 * SECOND)


@pytest.mark.parametrize("lags", [(0.0, 0.1), (3.0, 9.0, 15.0), (-0.9, -0.8)], ids=["together", "unsteady", "near"])
def test_short_or_unsteady_lag_is_no_clock_difference(lags):
    lag = Lag()
    for number, each in enumerate(lags):
        lag.add(number, round(each * SECOND))
    assert lag.apart is None


@pytest.mark.parametrize(("period", "apart"), [(0.2, None), (1.0, None), (2.0, None), (1.0, -4.0)])
def test_period_of_slow_images_is_no_clock_difference(period, apart):
    lag = Lag()
    for number in range(5):
        behind = apart or -period
        lag.add(round(number * period * SECOND), round(behind * SECOND))
    assert lag.apart == (apart and round(apart * SECOND))
