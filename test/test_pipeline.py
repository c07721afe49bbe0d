import threading
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.governor import Throttle
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.adaptation.worker import RUNNING, STARTING, STOPPED, WorkerStatus
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.pipeline import GUARD_PAUSE, MIN_FAILURES, STARVED_FACTOR, STARVING, Pipeline
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig

CAMERA = CameraModel(width=80, height=40, fx=40.0, fy=40.0, cx=40.0, cy=20.0)
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
PATIENCE = 10  # seconds until a test that hangs fails


class Teacher:
    dim, grid = 6, (4, 8)

    def __call__(self, images):
        return torch.linspace(-1, 1, 32 * 6).view(1, 4, 8, 6).expand(len(images), 4, 8, 6)


def settings(**values):
    """Without the guard: this teacher says the same of every image."""
    return TTTConfig(guard=False, **values)


def frame(stamp=0):
    points = np.random.default_rng(stamp).uniform([2, -4, -2], [10, 4, 2], (400, 3)).astype(np.float32)
    view = View("front", stamp, np.zeros((40, 80, 3), np.uint8), CAMERA, CAMERA_FROM_LIDAR)
    return Frame(stamp, points, (view,))


@pytest.fixture
def student():
    torch.manual_seed(0)
    options = dict(channels=4, levels=2)
    return Student(StudentConfig(voxel_size=0.3, options=options, head_width=8, teacher_dim=6)).eval()


@pytest.fixture
def run(student):
    """run(pipeline settings) makes a pipeline; .reports of it; closed at the end."""
    made = []

    def make(config=None, background=False, teacher=None, seed=0):
        reports = []
        config = config or settings(stride=1, learning_rate=1.0)
        build = partial(OnlineTTTKD, student, teacher or Teacher(), seed)
        pipeline = Pipeline(student, build, config, background=background, on_report=reports.append)
        made.append(pipeline)
        return pipeline, reports

    yield make
    for pipeline in made:
        pipeline.close()


def process(pipeline, stamps):
    return [process_one(pipeline, stamp, frame(stamp).points, partial(frame, stamp)) for stamp in stamps]


def process_one(pipeline, stamp, points, build_frame):
    """Segment and adapt as the node does."""
    prediction = pipeline.segment(points)
    pipeline.adapt(stamp, build_frame)
    return prediction


def test_every_point_gets_a_label_and_its_probability(student):
    points = frame().points
    prediction = Segmenter(student).segment(points)
    with torch.no_grad():
        probability = student.logits(student(torch.tensor(points))).softmax(1)
    assert (prediction.labels.dtype, prediction.confidence.dtype) == (np.uint8, np.float32)
    assert np.array_equal(prediction.labels, probability.argmax(1).numpy())
    np.testing.assert_allclose(prediction.confidence, probability.amax(1).numpy(), rtol=1e-5)


def test_points_that_cannot_be_segmented_are_unlabelled_in_place(student):
    points = frame().points
    clean = Segmenter(student).segment(points)
    odd = np.array([[np.nan, 0, 0], [0, np.inf, 0], [0, 0, 0], [1e30, 0, 0], [0, 7e2, 0]], np.float32)
    mixed = Segmenter(student).segment(np.insert(points, [0, 10, 10, 200, 400], odd, axis=0))
    holes = [0, 11, 12, 203, 404]
    assert (mixed.labels[holes] == UNLABELLED).all()
    assert (mixed.confidence[holes] == 0).all()
    assert np.array_equal(np.delete(mixed.labels, holes), clean.labels)


@pytest.mark.parametrize("points", [np.empty((0, 3)), np.full((4, 3), np.nan), np.full((1, 3), 2), np.ones((5, 3))])
def test_clouds_of_no_or_one_place_are_labelled(student, points):
    prediction = Segmenter(student).segment(points)
    assert prediction.labels.shape == prediction.confidence.shape == (len(points),)
    assert ((prediction.labels == UNLABELLED) == ~np.isfinite(points).all(1)).all()


@pytest.mark.parametrize("share", [0.05, 0.41, 0.95])
def test_points_without_a_return_are_unlabelled_and_change_no_other_label(student, share):
    points = frame().points
    empty = np.random.default_rng(1).random(len(points)) < share
    points[empty] = 0
    prediction = Segmenter(student).segment(points)
    alone = Segmenter(student).segment(points[~empty])
    assert ((prediction.labels == UNLABELLED) == empty).all()
    assert np.array_equal(prediction.labels[~empty], alone.labels)
    assert np.array_equal(prediction.confidence[~empty], alone.confidence)


def test_a_map_is_labelled_near_the_sensor_with_one_warning(student, monkeypatch, caplog):
    for module in ("segmenter.segmenter", "segmenter.student"):
        monkeypatch.setattr(f"tttkd_ros.{module}.MAX_VOXELS", 50)
    points = np.random.default_rng(0).uniform(-60, 60, (400, 3)).astype(np.float32)
    segmenter = Segmenter(student)
    labelled = segmenter.segment(points).labels != UNLABELLED
    distance = np.linalg.norm(points, axis=1)
    assert 50 <= labelled.sum() < 60 and distance[labelled].max() < np.sort(distance)[60]
    segmenter.segment(points)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the cloud occupies more than 50 voxels"
    ]


def test_logits_are_accumulated_over_rotations_about_the_vertical(student):
    points = frame().points
    turned = [points, points[:, [1, 0, 2]] * [-1, 1, 1], points * [-1, -1, 1], points[:, [1, 0, 2]] * [1, -1, 1]]
    with torch.no_grad():
        logits = sum(student.logits(student(torch.tensor(each, dtype=torch.float32))) for each in turned) / 4
    prediction = Segmenter(student, rotations=4).segment(points)
    same = prediction.labels == logits.argmax(1).numpy()
    assert same.mean() > 0.99  # a point at a voxel's face may fall into the next one
    np.testing.assert_allclose(prediction.confidence, logits.softmax(1).amax(1).numpy(), atol=0.01)
    assert (Segmenter(student).segment(points).confidence != prediction.confidence).any()


def test_points_that_a_rotation_takes_out_of_range_are_not_labelled(student):
    corner = 0.99 * student.max_range
    points = np.concatenate([frame().points, [[corner, corner, 0]]]).astype(np.float32)
    assert Segmenter(student).segment(points).labels[-1] != UNLABELLED
    assert Segmenter(student, rotations=8).segment(points).labels[-1] == UNLABELLED


def test_a_cloud_of_another_shape_is_refused(student):
    with pytest.raises(ValueError, match=r"\(5, 4\).*\(N, 3\)"):
        Segmenter(student).segment(np.zeros((5, 4)))


def test_read_only_points_are_accepted(student):
    points = np.frombuffer(frame().points.tobytes(), np.float32).reshape(-1, 3)
    assert len(Segmenter(student).segment(points).labels) == len(points)


def test_loaded_weights_predict_under_their_version(student):
    adapter = OnlineTTTKD(student, Teacher())
    adapter.step(frame(), settings(learning_rate=1.0))
    segmenter = Segmenter(student)
    before = segmenter.segment(frame().points)
    segmenter.load(adapter.weights())
    after = segmenter.segment(frame().points)
    assert (before.version, after.version) == (0, 1)
    assert not np.array_equal(before.confidence, after.confidence)


def test_weights_of_another_backbone_are_refused(student):
    other = Student(StudentConfig(options=dict(levels=3, channels=4), teacher_dim=6))
    with pytest.raises(ValueError, match="another backbone"):
        Segmenter(student).load(OnlineTTTKD(other, Teacher()).weights())


def test_a_sweep_is_predicted_before_it_is_trained_on(run):
    pipeline, reports = run()
    assert [prediction.version for prediction in process(pipeline, range(3))] == [0, 1, 2]
    assert [report.version for report in reports] == [1, 2, 3]


def test_a_step_is_taken_on_every_stride_th_sweep_from_the_first_on(run):
    pipeline, reports = run(settings(stride=3))
    process(pipeline, range(8))
    assert [report.stamp for report in reports] == [0, 3, 6]


def test_a_new_stride_counts_from_the_next_sweep(run):
    pipeline, reports = run(settings(stride=100))
    process(pipeline, range(4))
    pipeline.config = settings(stride=2)
    process(pipeline, range(4, 7))
    assert [(report.stamp, report.stride) for report in reports] == [(0, 100), (4, 2), (6, 2)]


def test_without_cameras_a_due_step_waits_for_a_sweep_with_one(run):
    pipeline, reports = run(settings(stride=3))
    for stamp in range(8):
        image = stamp not in (0, 1, 5)
        process_one(pipeline, stamp, frame(stamp).points, (lambda stamp=stamp: frame(stamp)) if image else None)
    assert [report.stamp for report in reports] == [2, 6]


def test_disabled_or_paused_it_segments_with_the_current_weights(run):
    pipeline, reports = run()
    process(pipeline, [0])
    pipeline.config = settings(enabled=False, stride=1)
    process(pipeline, [1])
    pipeline.config = settings(stride=1)
    pipeline.pause()
    assert pipeline.status.text == "paused"
    assert process(pipeline, [2, 3])[-1].version == 1
    pipeline.resume()
    process(pipeline, [4])
    assert [report.stamp for report in reports] == [0, 4]


def test_reset_brings_back_the_shipped_predictions(run):
    pipeline, _ = run()
    first = process(pipeline, range(4))[0]
    pipeline.reset()
    again = process(pipeline, [0])[0]
    assert again.version == 0
    assert np.array_equal(first.confidence, again.confidence)


def test_a_job_that_raises_costs_a_step_and_no_cloud(run):
    def make_frame():
        raise ValueError("unknown encoding 'weird'")

    pipeline, reports = run()
    prediction = process_one(pipeline, 0, frame().points, make_frame)
    assert len(prediction.labels) == 400
    assert "unknown encoding 'weird'" in reports[0].reason
    assert pipeline.status.counters.failed == 1


def without_image(stamp):
    return replace(frame(stamp), views=())


def attempted(pipeline, reports, frames):
    """Stamps of the sweeps that were tried, and of those accepted."""
    for each in frames:
        process_one(pipeline, each.stamp, each.points, lambda each=each: each)
    return [r.stamp for r in reports], [r.stamp for r in reports if r.accepted]


def test_a_step_without_an_image_is_retried_and_the_stride_counts_from_the_image(run):
    pipeline, reports = run(settings(stride=5, learning_rate=1.0))
    slow = [frame(i) if i % 5 == 3 else without_image(i) for i in range(15)]  # a camera slower than the LiDAR
    assert attempted(pipeline, reports, slow) == ([0, 3, 8, 13], [3, 8, 13])
    assert pipeline.status.counters.submitted == 4


def test_with_dead_cameras_one_attempt_per_stride_is_counted(run):
    pipeline, reports = run(settings(stride=4, learning_rate=1.0))
    assert attempted(pipeline, reports, map(without_image, range(12))) == ([0, 4, 8], [])
    assert pipeline.status.counters.submitted == pipeline.status.counters.rejected == 3


def test_the_status_says_that_the_scene_limit_is_reached(run):
    pipeline, reports = run(TTTConfig(stride=1, min_alignment=-2.0, scene_steps=1))
    states = []
    for number in range(2):
        attempted(pipeline, reports, [frame(number)])
        states.append(pipeline.status.text)
    assert states == ["running", "waiting: enough learned from this scene: 1 sweeps"]
    counters = pipeline.status.counters
    assert (counters.accepted, counters.skipped, counters.rejected) == (1, 1, 0)
    pipeline.reset()
    assert pipeline.status.text == "running"
    attempted(pipeline, reports, [frame(2)])
    assert (pipeline.status.text, pipeline.status.counters.accepted) == ("running", 2)


def test_a_frame_that_cannot_be_built_costs_its_turn(run):
    pipeline, reports = run(settings(stride=3))

    def make_frame():
        raise OSError("the driver is gone")

    for stamp in range(7):
        process_one(pipeline, stamp, frame().points, make_frame)
    assert [report.stamp for report in reports] == [0, 3, 6]


@pytest.mark.parametrize("failures", [1, 2, 3, 7])
def test_the_status_reports_failures_in_a_row_until_a_step_succeeds(run, failures):
    def make_frame():
        raise OSError("the driver is gone")

    pipeline, _ = run(settings(stride=1))
    for stamp in range(failures):
        process_one(pipeline, stamp, frame().points, make_frame)
    message = f"failing: the last {failures} steps failed: OSError: the driver is gone"
    assert (pipeline.status.failing, pipeline.status.text) == ((True, message) if failures >= 3 else (False, "running"))
    process(pipeline, [10])
    assert (pipeline.status.failing, pipeline.status.text) == (False, "running")


def test_resume_says_what_happens_or_why_it_cannot(run, student):
    pipeline, _ = run()
    pipeline.pause()
    assert pipeline.resume() == "adaptation is running"
    pipeline.config = replace(pipeline.config, enabled=False)
    with pytest.raises(ValueError, match="adaptation is off: ttt.enabled is false: set it to true"):
        pipeline.resume()
    with pytest.raises(ValueError, match="adaptation is off: needs a camera and a teacher"):
        Pipeline(student, None, settings(), background=True).resume()
    headless = Student(replace(student.config, teacher_dim=0)).eval()
    with pytest.raises(ValueError, match="adaptation is off: the student has no head for a teacher"):
        Pipeline(headless, None, settings(), background=True).resume()


@pytest.mark.parametrize("act", ["resume", "reset"])
def test_stopped_adaptation_is_started_again(student, act):
    def build():
        tried.append(1)
        raise OSError("the teacher's disk is gone")

    tried = []
    pipeline = Pipeline(student, build, settings(), background=True)
    until(lambda: pipeline.status.stopped)
    message = getattr(pipeline, act)()
    assert message == "adaptation starts again; it had stopped: OSError: the teacher's disk is gone"
    until(lambda: len(tried) == 2 and pipeline.status.stopped)
    pipeline.close()


def until(condition):
    for _ in range(100 * PATIENCE):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("waited in vain")


def test_two_replays_of_the_same_seed_agree_bit_for_bit(run):
    runs = [process(run(settings(stride=1, kd_points=50, learning_rate=1.0), seed=4)[0], range(4)) for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert one.confidence.tobytes() == other.confidence.tobytes()


def test_without_a_teacher_it_only_segments(student):
    pipeline = Pipeline(student, None, settings(stride=1), background=True)
    process(pipeline, range(2))
    for action in (pipeline.pause, pipeline.reset, pipeline.close):
        action()
    assert pipeline.status.counters.submitted == 0


def test_without_a_teacher_it_segments_with_loaded_weights_until_a_reset(student):
    adapter = OnlineTTTKD(student, Teacher())
    adapter.step(frame(), settings(learning_rate=1.0))
    pipeline = Pipeline(student, None, settings(), background=True)
    pipeline.load_weights(adapter.weights())
    assert process(pipeline, [0])[0].version == 1
    pipeline.reset()
    assert process(pipeline, [0])[0].version == 0


def test_predictions_continue_while_a_step_runs_and_then_use_its_weights(run):
    entered, gate = threading.Event(), threading.Event()

    class Slow(Teacher):
        def __call__(self, images):
            entered.set()
            assert gate.wait(PATIENCE)
            return super().__call__(images)

    pipeline, reports = run(background=True, teacher=Slow())
    process(pipeline, [0])
    assert not pipeline.beside_step
    assert entered.wait(PATIENCE)
    assert [prediction.version for prediction in process(pipeline, range(1, 4))] == [0, 0, 0]
    assert pipeline.beside_step
    pipeline.pause()
    gate.set()
    pipeline.close()
    assert [report.stamp for report in reports] == [0]
    assert process(pipeline, [4])[0].version == 1
    assert not pipeline.beside_step


class BrokenTeacher(Teacher):
    def __call__(self, images):
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("teacher", [Teacher, BrokenTeacher])
def test_a_prediction_is_beside_a_step_that_begins_and_ends_during_it(run, monkeypatch, teacher):
    pipeline, reports = run(background=True, teacher=teacher())
    segment = pipeline._segmenter.segment

    def slow(points, features, images):
        pipeline.adapt(0, partial(frame, 0))
        until(lambda: reports)
        return segment(points, features, images)

    monkeypatch.setattr(pipeline._segmenter, "segment", slow)
    pipeline.segment(frame().points)
    assert pipeline.beside_step
    monkeypatch.undo()
    pipeline.segment(frame().points)
    assert not pipeline.beside_step


def test_predictions_and_steps_side_by_side_are_those_of_each_alone(student):
    """Two threads in spconv's kernels at once, each with a model of its own, must not reach into one another's sums."""
    frames = [frame(stamp) for stamp in range(8)]
    segmenter, config = Segmenter(student), settings(stride=1, learning_rate=1.0, seconds=60.0)
    alone = [segmenter.segment(f.points).confidence for f in frames]

    def train():
        adapter = OnlineTTTKD(student, Teacher())
        return [adapter.step(f, config).loss for f in frames * 5]

    losses, beside = train(), []
    thread = threading.Thread(target=lambda: beside.extend(train()))
    thread.start()
    predicted = 0
    while thread.is_alive():
        for f, confidence in zip(frames, alone, strict=True):
            np.testing.assert_array_equal(segmenter.segment(f.points).confidence, confidence)
            predicted += 1
    thread.join()
    assert beside == losses
    assert predicted > 0


@pytest.mark.parametrize(
    ("change", "cause"),
    [(lambda points: 1000 * points, "millimetres"), (lambda points: points + [9e3, -4e3, 20], "map's frame"),
     (lambda points: 0 * points, "no point has a return")],
    ids=["millimetres", "map", "no return"],
)
def test_clouds_out_of_range_are_logged_once_and_explained(student, caplog, change, cause):
    segmenter = Segmenter(student)
    for number in range(5):
        assert cause in segmenter.segment(change(frame(number).points)).problem
    assert segmenter.segment(frame().points).problem == ""
    (record,) = [record for record in caplog.records if record.name == "tttkd_ros.segmenter.segmenter"]
    assert record.levelname == "WARNING" and cause in record.getMessage()


def test_the_status_says_that_adaptation_is_starved(run):
    pipeline, _ = run()
    for factor, starved in ((1, False), (STARVED_FACTOR // 2, False), (STARVED_FACTOR, True), (64, True), (1, False)):
        pipeline.throttle = Throttle(factor, 0.5)
        assert pipeline.status.text.startswith(STARVING) == starved
    pipeline.throttle = Throttle(64, 0.5)
    assert "on every 64 sweeps instead of 1" in pipeline.status.text


def test_the_status_says_that_the_guard_paused(run):
    pipeline, reports = run(TTTConfig(stride=1, min_alignment=2.0, patience=2))
    attempted(pipeline, reports, map(frame, range(3)))
    assert pipeline.status.text.startswith(f"{GUARD_PAUSE}: the image of front is frozen")


def test_images_are_distrusted_from_their_rejection_until_nobody_checks_them(run):
    pipeline, reports = run(TTTConfig(stride=1, min_alignment=2.0))
    assert not pipeline.distrusts_images
    attempted(pipeline, reports, [frame(0)])
    assert pipeline.distrusts_images
    for change in ({"enabled": False}, {"guard": False}):
        pipeline.config, before = replace(pipeline.config, **change), pipeline.config
        assert not pipeline.distrusts_images
        pipeline.config = before
    pipeline.pause()
    assert not pipeline.distrusts_images
    pipeline.resume()
    assert pipeline.distrusts_images
    pipeline.reset()
    assert not pipeline.distrusts_images


def test_a_step_that_fails_says_nothing_new_of_the_images_until_all_fail(run):
    pipeline, reports = run(TTTConfig(stride=1, min_alignment=2.0))
    attempted(pipeline, reports, [frame(0)])
    for number in range(1, MIN_FAILURES + 1):
        pipeline.adapt(number, lambda: 1 / 0)
        assert "division" in reports[-1].reason and pipeline.distrusts_images is (number < MIN_FAILURES)


def test_images_are_not_distrusted_when_adaptation_has_stopped(student, teacher):
    report = StepReport(stamp=0, version=0, accepted=False, reason="", distrusted=True)
    pipeline = Pipeline(student, lambda: OnlineTTTKD(student, teacher), TTTConfig(), background=False)
    for state, distrusts in ((RUNNING, True), (STARTING, False), (STOPPED, False)):
        pipeline._worker.status = WorkerStatus(state=state, last=report)
        assert pipeline.distrusts_images is distrusts
