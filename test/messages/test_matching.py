import threading
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tttkd_ros.messages.matching import MAX_AHEAD_NS, StampMatcher, Unmatched

TOLERANCE, DEPTH = 50, 5
CAMERAS = ("one", "two", "three")


def matcher_for(*cameras, tolerance=TOLERANCE, depth=DEPTH, **offsets):
    return StampMatcher(dict.fromkeys(cameras or ("front",), 0) | offsets, tolerance, depth)


def filled(stamps, **options):
    matcher = matcher_for(**options)
    for stamp in stamps:
        matcher.add("front", stamp, f"image {stamp}")
    return matcher


def nearest(matcher, stamp, camera="front"):
    """The image of a scan that arrives now, None if there is none."""
    return match(matcher, camera, matcher.register(stamp))


def match(matcher, camera, scan):
    try:
        return matcher.nearest(camera, scan)
    except Unmatched:
        return None


@pytest.mark.parametrize(("sweep", "image"), [(100, 100), (120, 100), (160, 200), (199, 200), (250, 200), (50, 100)])
def test_nearest_image_before_or_after_the_scan_matches(sweep, image):
    assert nearest(filled([100, 200]), sweep) == f"image {image}"


def test_earlier_of_two_equally_near_images_matches():
    assert nearest(filled([100, 140]), 120) == "image 100"


def test_offset_of_each_camera_is_applied():
    matcher = matcher_for("front", late=30, early=-30)
    for camera in ("front", "late", "early"):
        for stamp in (70, 100, 130):
            matcher.add(camera, stamp, stamp)
    scan = matcher.register(100)
    assert [matcher.nearest(camera, scan) for camera in ("front", "late", "early")] == [100, 130, 70]


@pytest.mark.parametrize("sweep", [49, 151])
def test_image_beyond_the_tolerance_does_not_match(sweep):
    assert nearest(filled([100]), sweep) is None


@pytest.mark.parametrize(
    ("offset", "reason"),
    [(0, "the nearest image is 2.000 s too old, the tolerance 0.05 s"),
     (-4 * 10**9, "the nearest image is 2.000 s from the future, the tolerance 0.05 s")],
)
def test_reason_has_distance_and_side_of_the_nearest_image(offset, reason):
    matcher = matcher_for(front=offset, tolerance=50 * 10**6)
    matcher.add("front", 10**9, "image")
    with pytest.raises(Unmatched, match=reason):
        matcher.nearest("front", matcher.register(3 * 10**9))


def test_camera_that_never_sent_has_no_image():
    matcher = matcher_for()
    with pytest.raises(Unmatched, match="no image"):
        matcher.nearest("front", matcher.register(100))


def test_cameras_are_matched_separately():
    matcher = matcher_for("front", "rear")
    matcher.add("front", 100, "front")
    matcher.add("rear", 110, "rear")
    assert (nearest(matcher, 110, "front"), nearest(matcher, 110, "rear")) == ("front", "rear")


def test_oldest_image_is_dropped_beyond_depth():
    matcher = filled([100, 200, 300], depth=2)
    assert nearest(matcher, 100) is None and nearest(matcher, 200) == "image 200"


def test_image_that_was_overtaken_matches():
    assert nearest(filled([100, 200, 160]), 155) == "image 160"


def test_image_replaces_an_earlier_one_with_the_same_stamp():
    matcher = filled([100, 120], depth=2)
    matcher.add("front", 100, "again")
    assert nearest(matcher, 100) == "again" and nearest(matcher, 120) == "image 120"


def test_camera_that_jumps_back_loses_only_its_own_images():
    matcher = matcher_for("front", "rear")
    matcher.add("front", 1000, "front")
    matcher.add("rear", 1000, "rear")
    matcher.add("front", 900, "after the jump")
    scan = matcher.register(1000)
    assert match(matcher, "front", scan) is None and match(matcher, "rear", scan) == "rear"


def test_single_stamp_far_in_the_future_costs_only_kept_images():
    matcher = filled([100, 200, 10**18, 300, 400])
    assert [nearest(matcher, stamp) for stamp in (300, 400)] == ["image 300", "image 400"]


JUMPS = {
    "scans jump": ("i800 i900 i1000 s1000 S900", None),
    "camera jumps before the scans": ("i900 i1000 s1000 i100 S100", 3),
    "camera jumps after the scan": ("i900 i1000 S900 i100 i900", None),
    "late image from before the jump": ("i900 s1000 s100 i1000 s200 S1000", None),
    "image with a wrong stamp before the jump": (f"i800 s900 i{10**18} i900 s100 S900", None),
    "time of the jump recurs": ("i900 s1000 i1000 s100 i100 S960 i1000", 6),
    "late image and a later one with the same stamp": ("i900 s1000 s100 i1000 i100 i1000 S1000", 5),
    "scan repeated": ("i800 i900 s800 s900 s800 i1000 S1000", 5),
    "scan with a wrong stamp in the future": (f"i100 s100 s{10**18} s200 i200 S200", 4),
    "scan with a wrong stamp in the past": ("i900 s1000 s100 i1060 S1100", 3),
}


@pytest.mark.parametrize(("events", "expected"), JUMPS.values(), ids=JUMPS)
def test_images_are_matched_on_one_side_of_a_jump(events, expected):
    """Events: i is an image, s a scan, S the scan to match, each with its stamp. expected: the image's place."""
    matcher = matcher_for()
    for number, event in enumerate(events.split()):
        kind, stamp = event[0], int(event[1:])
        if kind == "i":
            matcher.add("front", stamp, number)
        elif kind == "S":
            matched = matcher.register(stamp)
        else:
            matcher.register(stamp)
    assert match(matcher, "front", matched) == expected


def test_scan_from_before_a_jump_gets_no_image_from_after_it():
    matcher = filled([900, 1000])
    scan = matcher.register(1000)
    matcher.add("front", 100, "after the jump")
    matcher.register(100)
    matcher.add("front", 1000, "after the jump")
    with pytest.raises(Unmatched, match="time has jumped back since the sweep"):
        matcher.nearest("front", scan)


def test_offset_counts_in_telling_images_from_before_a_jump():
    matcher = matcher_for(front=900)
    matcher.register(1000)
    scan = matcher.register(100)
    matcher.add("front", 1000, "image")
    assert matcher.nearest("front", scan) == "image"


def test_scans_that_drift_back_beyond_the_tolerance_have_jumped():
    matcher = filled([80])
    assert [nearest(matcher, stamp) for stamp in (100, 60, 50, 49)] == [*3 * ["image 80"], None]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [([], True), ([900], True), ([1000], False), ([1010], False), ([980], True), ([880, 980], False),
     ([930, 970], True), ([1000 + MAX_AHEAD_NS + 1], True), ([700, 800], True), ([700, 900], False),
     ([600, 800], True), ([450, 700], True), ([450, 690], False)],
    ids=["never sent", "too old", "exact", "later", "no period yet", "the next is no nearer", "the next is nearer",
         "wrong stamp", "two periods behind", "between two images of a slow camera", "the next of a slow camera",
         "the next is just not too early", "one is too early, and one too late"],
)
def test_nearer_image_is_expected_by_the_cameras_period(stamps, expected):
    matcher = filled(stamps)
    assert matcher.expects("front", matcher.register(1000), 10**9) is expected


@pytest.mark.parametrize("wait", [1, 4])
def test_no_image_is_expected_if_the_clocks_keep_it_further_behind_than_the_wait(wait):
    matcher = matcher_for()
    for second in range(10, 14):
        matcher.add("front", (second - 3) * 10**9, "image")
        scan = matcher.register(second * 10**9)
    assert matcher.expects("front", scan, wait * 10**9) is (wait > 3)


def test_nothing_is_expected_for_a_scan_from_before_a_jump():
    matcher = matcher_for()
    scan = matcher.register(1000)
    matcher.register(100)
    assert not matcher.expects("front", scan, 10**9)


@pytest.mark.parametrize(("stamps", "reached"), [([], False), ([999], False), ([1000], True), ([1010, 999], True),
                                                 ([1001 + MAX_AHEAD_NS], False)])
def test_scan_is_reached_by_an_image_as_late(stamps, reached):
    matcher = filled(stamps)
    assert matcher.reached("front", matcher.register(1000)) is reached


def test_forget_drops_images_that_are_too_old():
    matcher = filled([100, 200, 300])
    matcher.forget(matcher.register(250))
    assert [nearest(matcher, stamp) for stamp in (250, 300)] == ["image 200", "image 300"]
    assert nearest(filled([100, 200, 300]), 100) == "image 100"
    matcher = filled([100, 200, 300])
    matcher.forget(matcher.register(251))
    assert nearest(matcher, 230) is None


@pytest.mark.parametrize(("max_bytes", "kept"), [(10, [500]), (249, [400, 500]), (300, [300, 400, 500])])
def test_bytes_are_limited_but_the_newest_image_is_kept(max_bytes, kept):
    matcher = StampMatcher({"front": 0}, TOLERANCE, DEPTH, max_bytes)
    for stamp in range(100, 600, 100):
        matcher.add("front", stamp, stamp, 100)
    assert [stamp for stamp in range(100, 600, 100) if nearest(matcher, stamp)] == kept


def test_replaced_and_forgotten_images_free_their_bytes():
    matcher = StampMatcher({"front": 0}, TOLERANCE, DEPTH, 250)
    for size in (200, 100):
        matcher.add("front", 100, f"of {size}", size)
    matcher.add("front", 160, "second", 100)
    assert nearest(matcher, 100) == "of 100"
    matcher.forget(matcher.register(200))
    matcher.add("front", 220, "third", 100)
    assert nearest(matcher, 200) in ("second", "third") and nearest(matcher, 160) == "second"


@pytest.mark.parametrize("max_bytes", [1, 150, 10**9])
def test_referenced_scan_keeps_its_images(max_bytes):
    matcher = StampMatcher({"front": 0, "rear": 20}, TOLERANCE, DEPTH, max_bytes)
    for stamp in (100, 130):
        matcher.add("front", stamp, f"front {stamp}", 100)
    scan = matcher.register(120)
    for stamp in range(140, 3000, 30):  # the first one of the rear camera belongs to the scan, too
        for camera in ("front", "rear"):
            matcher.add(camera, stamp, f"{camera} {stamp}", 100)
    assert (match(matcher, "front", scan), match(matcher, "rear", scan)) == ("front 130", "rear 140")


class Image:
    """An image to which weak references are possible."""


def test_images_of_unreferenced_scans_are_freed():
    matcher = matcher_for()
    images, scans = [], []
    for stamp in range(0, 2000, 100):
        matcher.add("front", stamp, image := Image())
        images.append(weakref.ref(image))
        scans.append(matcher.register(stamp))
    del image
    assert all(image() is not None for image in images)
    del scans[2:15]
    assert [image() is not None for image in images] == [True] * 2 + [False] * 13 + [True] * 5


@pytest.mark.parametrize(("max_bytes", "kept"), [(100, 1), (250, 2), (399, 3), (10_000, 20)])
def test_reserved_images_are_limited_and_the_first_scans_keep_theirs(max_bytes, kept):
    matcher = StampMatcher({"front": 0}, TOLERANCE, DEPTH, max_bytes)
    scans = []
    for stamp in range(0, 2000, 100):
        matcher.add("front", stamp, stamp, 100)
        scans.append(matcher.register(stamp))
    for stamp in range(5000, 7000, 100):
        matcher.add("front", stamp, stamp, 100)
    assert [match(matcher, "front", scan) for scan in scans[:kept]] == list(range(0, 100 * kept, 100))
    assert not any(match(matcher, "front", scan) for scan in scans[kept:])


@pytest.mark.parametrize(("tolerance", "depth"), [(-1, 1), (0, 0)])
def test_invalid_limits_are_refused(tolerance, depth):
    with pytest.raises(ValueError, match="expected"):
        matcher_for(tolerance=tolerance, depth=depth)


class AnyStream(RuleBasedStateMachine):
    """Scans and images in any order. Each image is the number of its arrival."""

    cameras = ("front", "rear")
    stamps = st.integers(0, 500) | st.sampled_from([-(2**31) * 10**9, 0, MAX_AHEAD_NS, 2**31 * 10**9])

    def __init__(self):
        super().__init__()
        self.matcher = StampMatcher({"front": 0, "rear": 20}, TOLERANCE, DEPTH)
        self.images: list[tuple[str, int]] = []
        self.scans = []

    @rule(camera=st.sampled_from(cameras), stamp=stamps)
    def image(self, camera, stamp):
        self.matcher.add(camera, stamp, len(self.images))
        self.images.append((camera, stamp))

    @rule(stamp=stamps)
    def sweep(self, stamp):
        self.scans.append(self.matcher.register(stamp))

    @rule(t=st.integers(0, 500))
    def matching_recovers(self, t):
        """After one scan with an image of each camera, the next one matches, whatever came before."""
        for stamp in (t, t + 1000):
            self.sweep(stamp)
            self.image("front", stamp)
            self.image("rear", stamp + 20)
        count = len(self.images)
        assert [match(self.matcher, camera, self.scans[-1]) for camera in self.cameras] == [count - 2, count - 1]

    @invariant()
    def matches_are_within_the_tolerance_and_the_last_of_their_stamp(self):
        for scan in self.scans[-3:]:
            for camera, offset in (("front", 0), ("rear", 20)):
                found = match(self.matcher, camera, scan)
                if found is None:
                    continue
                name, stamp = self.images[found]
                assert name == camera and abs(stamp - scan.stamp - offset) <= TOLERANCE
                assert (camera, stamp) not in self.images[found + 1:]

    @invariant()
    def memory_is_bounded(self):
        assert all(len(camera.images) <= DEPTH for camera in self.matcher._cameras.values())
        assert len(self.matcher._reserved) == len(self.scans)


TestAnyStream = AnyStream.TestCase
TestAnyStream.settings = settings(deadline=None, max_examples=60)


@settings(deadline=None)
@given(st.lists(st.integers(-TOLERANCE, 0), max_size=40), st.integers(0, 2000), st.integers(-100, 100))
def test_nearest_of_the_newest_images_matches_without_jumps(overtaken, sweep, offset):
    """Each image is stamped up to the tolerance before the one that should have come last."""
    stamps = [60 * index + late for index, late in enumerate(overtaken)]
    matcher = matcher_for(front=offset)
    for stamp in stamps:
        matcher.add("front", stamp, stamp)
    near = [stamp for stamp in stamps[-DEPTH:] if abs(stamp - sweep - offset) <= TOLERANCE]
    expected = min(near, key=lambda stamp: (abs(stamp - sweep - offset), stamp), default=None)
    assert nearest(matcher, sweep) == expected


@st.composite
def drives(draw):
    """Arrivals while time jumps: (time, stream, stamp, era) in the order of arrival.

    Scans and images of three cameras, each with its period, phase and losses. Each stream is in order, but up to 200
    later than the others. An era starts well before the end of the last one, or after it.
    """
    lengths = draw(st.lists(st.integers(1300, 2500), min_size=2, max_size=4))
    starts = [0]
    for length in lengths[:-1]:
        starts.append(starts[-1] + length + draw(st.integers(-length, -1300) | st.integers(200, 3000)))
    arrivals = []
    for stream in ("sweep", *CAMERAS):
        period, delay = draw(st.sampled_from([60, 100, 170, 400])), draw(st.integers(0, 200))
        begun = 0  # when the era did
        for era, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            first = draw(st.integers(0, period))
            end = length if stream == "sweep" else draw(st.integers(0, length) | st.just(length))
            arrivals += [(begun + since + delay, stream, start + since, era) for since in range(first, end, period)]
            begun += length
    return sorted(arrivals)


@settings(deadline=None, max_examples=40)
@given(drives(), st.integers(0, 300))
def test_no_image_is_matched_across_a_jump(arrivals, late):
    """Jobs ask until `late` after their scan, which is less than any jump: before one is seen, it cannot be known."""
    matcher = matcher_for(*CAMERAS, depth=100)
    jobs = []
    for now, stream, stamp, era in arrivals:
        if stream == "sweep":
            jobs.append((now, matcher.register(stamp), era))
        else:
            matcher.add(stream, stamp, era)
        jobs = [job for job in jobs if now - job[0] <= late]
        for _, scan, asked in jobs:
            assert {match(matcher, camera, scan) for camera in CAMERAS} <= {None, asked}


def test_threads_may_use_the_matcher_at_once():
    matcher = matcher_for("front", "rear", depth=8)
    failures = []

    def run(act):
        try:
            for stamp in range(3000):
                act(stamp)
        except Exception as error:
            failures.append(error)

    def ask(stamp):
        scan = matcher.register(stamp % 500)
        found = match(matcher, "front", scan)
        if found is not None and abs(found - scan.stamp) > TOLERANCE:
            failures.append((found, scan))
        matcher.expects("rear", scan, 10**9)

    def loop(stamp):
        matcher.add("front", stamp % 700, stamp % 700)

    def go_on(stamp):
        matcher.add("rear", stamp, stamp)

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in (loop, go_on, ask)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and not any(thread.is_alive() for thread in threads)


SECOND = 10**9


def reason(matcher, scan, camera="front"):
    with pytest.raises(Unmatched) as refused:
        matcher.nearest(camera, scan)
    return str(refused.value)


@pytest.mark.parametrize("apart", [-37, -8, 12, 3600])
def test_reason_has_the_offset_that_corrects_the_clock(apart):
    matcher = matcher_for(tolerance=SECOND // 20)
    for number in range(20):
        stamp = (100_000 + number) * SECOND // 10
        matcher.add("front", stamp + apart * SECOND, number)
        scan = matcher.register(stamp)
    assert f"--offset {apart}, for the node matching.offsets: [{apart}.0]" in reason(matcher, scan)


def test_clock_difference_is_reported_without_any_kept_image():
    matcher = matcher_for(tolerance=SECOND // 20)
    for number in range(3):
        matcher.add("front", (1000 + number) * SECOND - 37 * SECOND, number)
        scan = matcher.register((1000 + number) * SECOND)
    matcher.forget(scan)
    assert "images are 37.0 s behind the sweeps" in reason(matcher, scan)


@pytest.mark.parametrize("sweeps", [5, 50, 500])
def test_stopped_camera_is_not_reported_as_a_clock_difference(sweeps):
    matcher = matcher_for(tolerance=SECOND // 20)
    for number in range(20 + sweeps):
        stamp = (1000 + number) * SECOND
        if number < 20:
            matcher.add("front", stamp, number)
        scan = matcher.register(stamp)
    assert f"the nearest image is {sweeps}.000 s too old" in reason(matcher, scan)


def test_single_old_image_is_not_reported_as_a_clock_difference():
    matcher = matcher_for(tolerance=SECOND // 20)
    matcher.add("front", 900 * SECOND, "stale")
    assert "the nearest image is 100.000 s too old" in reason(matcher, matcher.register(1000 * SECOND))


def test_clocks_are_measured_again_after_a_jump_back():
    matcher = matcher_for(tolerance=SECOND // 20)
    for start in (10_000, 100):
        for number in range(3):
            matcher.add("front", (start + number - 20) * SECOND, number)
            scan = matcher.register((start + number) * SECOND)
    assert "images are 20.0 s behind the sweeps" in reason(matcher, scan)


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=40), st.integers(0, 2000), st.integers(0, 40))
def test_referenced_scan_matches_the_nearest_image_without_jumps(periods, sweep, before):
    stamps = [sum(periods[: index + 1]) for index in range(len(periods))]
    matcher = matcher_for()
    for stamp in stamps[:before]:
        matcher.add("front", stamp, stamp)
    scan = matcher.register(sweep)
    for stamp in stamps[before:]:
        matcher.add("front", stamp, stamp)
    kept = list(dict.fromkeys(stamps[:before]))[-DEPTH:] + stamps[before:]
    near = [stamp for stamp in kept if abs(stamp - sweep) <= TOLERANCE]
    assert match(matcher, "front", scan) == min(near, key=lambda stamp: (abs(stamp - sweep), stamp), default=None)
