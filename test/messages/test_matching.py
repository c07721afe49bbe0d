import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tttkd_ros.messages.matching import StampMatcher


def filled(stamps, *, tolerance=50, depth=10, camera="front"):
    matcher = StampMatcher(tolerance, depth)
    for stamp in stamps:
        matcher.add(camera, stamp, f"image {stamp}")
    return matcher


@pytest.mark.parametrize(("sweep", "image"), [(100, 100), (120, 100), (160, 200), (199, 200), (250, 200), (50, 100)])
def test_the_image_nearest_in_stamp_is_taken_before_or_after_the_sweep(sweep, image):
    assert filled([100, 200]).nearest("front", sweep) == f"image {image}"


def test_of_two_as_near_the_earlier_is_taken():
    assert filled([100, 140]).nearest("front", 120) == "image 100"


@pytest.mark.parametrize("sweep", [49, 151])
def test_an_image_beyond_the_tolerance_is_not_taken(sweep):
    assert filled([100]).nearest("front", sweep) is None


def test_a_camera_that_was_never_heard_has_no_image():
    assert filled([100]).nearest("rear", 100) is None


def test_cameras_do_not_answer_for_each_other():
    matcher = filled([100])
    matcher.add("rear", 110, "rear")
    assert (matcher.nearest("front", 110), matcher.nearest("rear", 110)) == ("image 100", "rear")


def test_the_oldest_gives_way_when_the_ring_is_full():
    matcher = filled([100, 200, 300], depth=2)
    assert matcher.nearest("front", 100) is None and matcher.nearest("front", 200) == "image 200"


def test_an_image_that_was_overtaken_still_counts():
    assert filled([100, 200, 160]).nearest("front", 155) == "image 160"


def test_a_stamp_seen_before_replaces_what_was_kept_under_it():
    matcher = filled([100, 120], depth=2)
    matcher.add("front", 100, "again")
    assert matcher.nearest("front", 100) == "again" and matcher.nearest("front", 120) == "image 120"


def test_a_camera_that_jumps_back_clears_every_camera():
    matcher = filled([1000])
    matcher.add("rear", 1000, "rear")
    matcher.add("front", 100, "after the jump")
    assert matcher.nearest("rear", 1000) is None
    assert matcher.nearest("front", 100) == "after the jump"


def test_a_sweep_that_jumps_back_is_not_paired_with_what_came_before_the_jump():
    matcher = filled([1000, 1040])
    assert matcher.nearest("front", 1000) == "image 1000"
    assert matcher.nearest("front", 500) is None
    assert matcher.newest("front") is None


def test_clearing_forgets_everything():
    matcher = filled([100])
    matcher.clear()
    assert matcher.nearest("front", 100) is None


def test_keeping_a_span_forgets_the_rest():
    matcher = filled([100, 200, 300])
    matcher.keep(150, 250)
    assert [matcher.nearest("front", stamp) for stamp in (100, 200, 300)] == [None, "image 200", None]


@pytest.mark.parametrize(("tolerance", "depth"), [(-1, 1), (0, 0)])
def test_limits_that_make_no_sense_are_refused(tolerance, depth):
    with pytest.raises(ValueError, match="expected"):
        StampMatcher(tolerance, depth)


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(0, 1000))
def test_what_is_returned_lies_within_the_tolerance_and_nothing_newer_is_nearer(stamps, sweep):
    matcher = StampMatcher(50, 8)
    for stamp in stamps:
        matcher.add("front", stamp, stamp)
    found = matcher.nearest("front", sweep)
    if found is not None:
        assert abs(found - sweep) <= 50
    if stamps and abs(stamps[-1] - sweep) <= 50:
        assert found is not None and abs(found - sweep) <= abs(stamps[-1] - sweep)


def test_threads_may_add_and_ask_at_once():
    matcher = StampMatcher(50, 8)
    failures = []

    def add():
        try:
            for stamp in range(3000):
                matcher.add("front", stamp, stamp)
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    while thread.is_alive():
        matcher.nearest("front", 1500)
    thread.join()
    assert not failures and matcher.newest("front") == 2999
