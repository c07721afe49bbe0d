"""The inference thread, with a pipeline that a test can block or make fail."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from rclpy.serialization import serialize_message  # noqa: E402

from tttkd_ros.adaptation.governor import WINDOW, Governor, Throttle  # noqa: E402
from tttkd_ros.classes import OUTDOOR, UNLABELLED  # noqa: E402
from tttkd_ros.frame import Frame, View  # noqa: E402
from tttkd_ros.messages.livox import decode_livox  # noqa: E402
from tttkd_ros.messages.point_cloud import decode_field  # noqa: E402
from tttkd_ros.monitoring.statistics import Statistics  # noqa: E402
from tttkd_ros.monitoring.throttled_log import ThrottledLog  # noqa: E402
from tttkd_ros.pipeline import FASTER  # noqa: E402
from tttkd_ros.ros.inference import Inference  # noqa: E402
from tttkd_ros.segmenter.image_features import ImageFeatures  # noqa: E402
from tttkd_ros.segmenter.segmenter import Prediction  # noqa: E402


class Pipeline:
    """Waits for `go` before each sweep. Fails on the sweeps whose numbers, from 1, are in `failing`."""

    def __init__(self):
        self.go = threading.Event()
        self.started = threading.Event()
        self.failing = set()
        self.unlabelled = slice(0, 0)  # points
        self.build_frames = []
        self.points, self.features = [], []
        self.beside_step = self.distrusts_images = False

    def segment(self, points, features, images=None):
        self.started.set()
        self.go.wait(10)
        self.points.append(points)
        self.features.append(features)
        if len(self.points) in self.failing:
            raise RuntimeError("out of memory")
        labels = np.zeros(len(points), np.uint8)
        labels[self.unlabelled] = UNLABELLED
        return Prediction(labels, np.ones(len(points), np.float32), 3)

    def adapt(self, stamp, build_frame):
        self.build_frames.append(build_frame)


class Cameras:
    def add_sweep(self, stamp):
        return None

    def frame(self, *arguments, **options):
        raise AssertionError("not asked for")


@pytest.fixture
def pipeline():
    return Pipeline()


@pytest.fixture
def outcome():
    """What the thread did."""
    return {"published": [], "after": [], "warnings": [], "errors": [], "statistics": Statistics()}


@pytest.fixture
def start(pipeline, outcome):
    """start(features): an inference thread for a student that takes these."""
    upside_down, threads = np.diag([1.0, -1.0, -1.0]), []

    def start(features=()):
        threads.append(Inference(
            pipeline, OUTDOOR.palette, None, outcome["published"].append, outcome["after"].append,
            outcome["statistics"], ThrottledLog(outcome["warnings"].append), ThrottledLog(outcome["errors"].append),
            queue_size=2, max_bytes=100_000, governor=Governor(60.0),
            level=lambda frame, stamp: upside_down if stamp == 7 else None, features=features,
        ))
        return threads[-1]

    yield start
    pipeline.go.set()
    for inference in threads:
        inference.close()


@pytest.fixture
def inference(start):
    return start()


def stamps(answers):
    return [answer.header.stamp.nanosec for answer in answers]


def wait_for(condition):
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("the condition never held")


def test_a_slow_student_drops_the_oldest_sweeps_and_keeps_the_order(inference, pipeline, outcome, ros):
    inference.submit(serialize_message(ros.cloud(0)))
    assert pipeline.started.wait(10)  # 0 is in hand, so that two of the following four can wait
    for stamp in range(1, 5):
        inference.submit(serialize_message(ros.cloud(stamp)))
    pipeline.go.set()
    wait_for(lambda: len(outcome["after"]) == 3)
    assert stamps(outcome["published"]) == [0, 3, 4]
    counts = outcome["statistics"].counts()
    assert (counts["sweeps in"], counts["sweeps out"], counts["sweeps dropped"]) == (5, 3, 2)
    assert outcome["warnings"] == ["points: the student is slower than the sweeps: dropped the oldest that waited"]


def test_a_sweep_is_levelled_before_it_is_segmented(inference, pipeline, outcome, ros):
    pipeline.go.set()
    for stamp in (6, 7):
        inference.submit(serialize_message(ros.cloud(stamp)))
    wait_for(lambda: len(outcome["after"]) == 2)
    as_sent, turned = pipeline.points
    assert np.array_equal(turned, as_sent * [1, -1, -1]) and (as_sent != turned).any()
    first, second = (answer.data for answer in outcome["published"])
    assert first == second  # the answer keeps the sensor's frame


def test_the_student_gets_the_features_that_it_takes(start, pipeline, outcome, ros):
    pipeline.go.set()
    start(["intensity", "position"]).submit(serialize_message(ros.cloud(1)))
    wait_for(lambda: outcome["after"])
    (features,), (labelled,) = pipeline.features, outcome["after"]
    assert list(features) == ["intensity"] and features["intensity"].shape == (len(pipeline.points[0]),)
    assert labelled.features["intensity"] is features["intensity"]  # training gets the same


def test_a_cloud_without_a_feature_that_the_student_takes_is_refused_by_name(start, pipeline, outcome, ros):
    pipeline.go.set()
    start(["rgb"]).submit(serialize_message(ros.cloud(1)))
    wait_for(lambda: outcome["warnings"])
    assert "the student takes rgb of every point, but the cloud has only the features" in outcome["warnings"][0]
    assert not outcome["published"]


def label_with(injector, pipeline, outcome, ros, cameras=None):
    """Label one cloud for a student with injection."""
    pipeline.go.set()
    outcome["after"].clear()
    inference = Inference(
        pipeline, OUTDOOR.palette, cameras or Cameras(), outcome["published"].append, outcome["after"].append,
        outcome["statistics"], ThrottledLog(outcome["warnings"].append), ThrottledLog(outcome["errors"].append),
        queue_size=2, governor=Governor(60.0), injector=injector,
    )
    inference.submit(serialize_message(ros.cloud(1)))
    wait_for(lambda: outcome["after"])
    inference.close()


def test_a_teacher_that_fails_costs_no_cloud(pipeline, outcome, ros):
    def broken(build_frame, arrived, period_s):
        raise RuntimeError("the engine is broken")

    pipeline.go.set()
    label_with(broken, pipeline, outcome, ros)
    assert not decode_field(outcome["published"][0], "seen").any()
    assert "the engine is broken" in outcome["errors"][0]


def test_a_step_takes_the_features_that_were_injected_and_late_images_beside_them(pipeline, outcome, ros):
    def view(name, features=None):
        return View(name, 1, np.zeros((2, 2, 3), np.uint8), None, np.eye(4), features=features)

    class Late(Cameras):
        def frame(self, scan, points, frame_id, **options):
            return Frame(1, points, (view("left"), view("right")))

    points = np.zeros((ros.cloud(1).width, 3), np.float32)
    computed = np.ones((1, 2, 3), np.float32)
    for missing, features in (({}, [computed]), ({"right": "no image"}, [computed, None])):
        frame = Frame(1, points, (view("left", computed),), missing=missing)
        injected = frame, ImageFeatures.none(len(points), 3, "cpu")
        label_with(lambda *_, injected=injected: injected, pipeline, outcome, ros, Late())
        assert [each.features for each in pipeline.build_frames.pop()().views] == features


def test_a_point_without_a_label_counts_as_unseen(pipeline, outcome, ros):
    pipeline.unlabelled = slice(0, 5)
    points = np.zeros((ros.cloud(1).width, 3), np.float32)
    images = ImageFeatures(torch.zeros(len(points), dtype=torch.int64), torch.zeros(1, 3))
    label_with(lambda *_: (Frame(1, points), images), pipeline, outcome, ros)
    assert np.flatnonzero(decode_field(outcome["published"][0], "seen") == 0).tolist() == [0, 1, 2, 3, 4]


def test_images_that_the_guard_does_not_trust_are_not_injected(pipeline, outcome, ros):
    class Injector:
        withheld = 0

        def withhold(self):
            self.withheld += 1

        def __call__(self, *arguments):
            raise AssertionError("not to be called")

    injector = Injector()
    pipeline.go.set()
    pipeline.distrusts_images = True
    label_with(injector, pipeline, outcome, ros)
    assert not decode_field(outcome["published"][0], "seen").any()
    assert injector.withheld == 1 and not outcome["errors"]


def test_a_failure_is_reported_and_the_next_sweep_is_labelled(inference, pipeline, outcome, ros):
    pipeline.go.set()
    pipeline.failing = {1}
    inference.submit(serialize_message(ros.cloud(1)))
    inference.submit(serialize_message(ros.cloud(2)))
    wait_for(lambda: outcome["after"])
    assert stamps(outcome["published"]) == [2]
    assert "sweep at 1 failed" in outcome["errors"][0] and "RuntimeError: out of memory" in outcome["errors"][0]
    assert outcome["statistics"].counts()["sweeps failed"] == 1


@pytest.mark.parametrize("follow_up", ["adapt", "after"])
def test_a_failure_after_publishing_is_reported_and_the_sweep_counts_once(
    inference, pipeline, outcome, ros, monkeypatch, follow_up
):
    def fail(*_):
        raise RuntimeError("too bad")

    monkeypatch.setattr(*((pipeline, "adapt", fail) if follow_up == "adapt" else (inference, "_on_labelled", fail)))
    pipeline.go.set()
    for stamp in (1, 2):
        inference.submit(serialize_message(ros.cloud(stamp)))
    wait_for(lambda: len(outcome["published"]) == 2)
    wait_for(lambda: outcome["errors"])
    (error,) = outcome["errors"]  # the second is of its kind
    assert "work after the labels of the sweep at 1 failed: RuntimeError: too bad\nTraceback" in error
    counts = outcome["statistics"].counts()
    assert (counts["sweeps in"], counts["sweeps out"], counts["sweeps failed"]) == (2, 2, 0)


@pytest.mark.parametrize("bytes_over", [1, 1000, 10**6])
def test_a_cloud_above_the_limit_is_refused_unread_with_the_remedy(inference, pipeline, outcome, ros, bytes_over):
    pipeline.go.set()
    inference.submit(bytes(100_000 + bytes_over))
    inference.submit(serialize_message(ros.cloud(2)))
    wait_for(lambda: outcome["after"])
    counts = outcome["statistics"].counts()
    assert (counts["sweeps in"], counts["sweeps undecodable"], counts["sweeps out"]) == (2, 1, 1)
    (warning,) = outcome["warnings"]
    assert f"it has {100_000 + bytes_over} bytes, expected at most 100000; " in warning
    assert "raise the parameter limits.cloud_bytes" in warning


@pytest.mark.parametrize("cdr", [b"", bytes(11), b"\0\1\0\0" + bytes(60), b"\xff" * 200])
def test_bytes_that_are_no_cloud_are_counted_as_undecodable(inference, pipeline, outcome, ros, cdr):
    pipeline.go.set()
    inference.submit(cdr)
    inference.submit(serialize_message(ros.cloud(2)))
    wait_for(lambda: outcome["after"])
    counts = outcome["statistics"].counts()
    assert (counts["sweeps in"], counts["sweeps undecodable"], counts["sweeps out"]) == (2, 1, 1)


@pytest.mark.parametrize("cdr", [b"", bytes(30), b"\0\1\0\0" + b"\xff" * 50])
def test_bytes_that_are_no_livox_message_are_counted_as_undecodable(inference, pipeline, outcome, cdr):
    pipeline.go.set()
    inference.submit(cdr, decode_livox)
    counts = outcome["statistics"].counts()
    assert (counts["sweeps in"], counts["sweeps undecodable"]) == (1, 1)
    assert "cloud cannot be read, so it gets no labels: " in outcome["warnings"][0]


def test_failures_in_a_row_are_reported_until_a_sweep_is_labelled(inference, pipeline, outcome, ros):
    pipeline.go.set()
    pipeline.failing = {1, 2, 3}
    seen = []
    for stamp in range(1, 5):
        inference.submit(serialize_message(ros.cloud(stamp)))
        count = outcome["statistics"].counts
        wait_for(lambda stamp=stamp, count=count: count()["sweeps out"] + count()["sweeps failed"] == stamp)
        wait_for(lambda stamp=stamp: bool(inference.trouble) == (stamp == 3))
        seen.append(inference.trouble)
    assert seen == ["", "", "the last 3 sweeps got no labels: RuntimeError: out of memory", ""]
    assert len(outcome["errors"]) == 1


def test_an_unreadable_cloud_counts_as_undecodable_only(inference, pipeline, outcome, ros):
    pipeline.go.set()
    bad = ros.cloud(1)
    bad.fields = bad.fields[:2]
    inference.submit(serialize_message(bad))
    inference.submit(serialize_message(ros.cloud(2)))
    wait_for(lambda: outcome["after"])
    counts = outcome["statistics"].counts()
    assert (counts["sweeps undecodable"], counts["sweeps out"], counts["sweeps failed"]) == (1, 1, 0)
    assert "no field 'z'" in outcome["warnings"][0]


def test_sweeps_that_wait_at_the_end_count_as_dropped(inference, pipeline, outcome, ros):
    inference.submit(serialize_message(ros.cloud(0)))
    assert pipeline.started.wait(10)
    inference.submit(serialize_message(ros.cloud(1)))
    inference.submit(serialize_message(ros.cloud(2)))
    closing = threading.Thread(target=inference.close)
    closing.start()
    wait_for(lambda: outcome["statistics"].counts()["sweeps dropped"] == 2)
    pipeline.go.set()
    closing.join(10)
    assert stamps(outcome["published"]) == [0]


def test_without_cameras_no_frame_is_submitted(inference, pipeline, outcome, ros):
    pipeline.go.set()
    inference.submit(serialize_message(ros.cloud(1)))
    wait_for(lambda: outcome["after"])
    assert pipeline.build_frames == [None]
    assert inference.version == 3


@pytest.fixture
def deadline_missed(inference, pipeline, outcome, ros):
    """deadline_missed(beside_step): the governor makes one decision, on sweeps that were all much too late."""

    def run(beside_step):
        inference._governor = Governor(1e-9)
        pipeline.beside_step = beside_step
        pipeline.go.set()
        for stamp in range(WINDOW):
            inference.submit(serialize_message(ros.cloud(stamp)))
            wait_for(lambda stamp=stamp: len(outcome["after"]) == stamp + 1)
        return inference

    return run


def test_late_sweeps_are_dropped_if_adaptation_need_not_give_way(deadline_missed, pipeline, outcome, ros):
    inference = deadline_missed(beside_step=False)
    assert pipeline.throttle == Throttle()
    pipeline.go.clear()
    pipeline.started.clear()
    inference.submit(serialize_message(ros.cloud(20)))
    assert pipeline.started.wait(10)
    for stamp in (21, 22):
        inference.submit(serialize_message(ros.cloud(stamp)))
    pipeline.go.set()
    wait_for(lambda: len(outcome["after"]) == 22)
    assert stamps(outcome["published"])[-2:] == [20, 22]  # 21 waited too long, and 22 was there in its place
    assert outcome["statistics"].counts()["sweeps dropped"] == 1


def test_predictions_that_are_too_slow_alone_are_reported_with_the_remedy(deadline_missed, outcome):
    inference = deadline_missed(beside_step=False)
    assert inference.slow == "predictions alone take nearly all of the deadline: " + FASTER
    assert outcome["warnings"] == [f"deadline: {inference.slow}"]


def test_sweeps_beside_steps_are_throttled_for(deadline_missed, pipeline):
    inference = deadline_missed(beside_step=True)
    assert pipeline.throttle == Throttle(1, 0.5)
    assert inference.slow == ""
