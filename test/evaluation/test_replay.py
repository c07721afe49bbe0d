"""Replay with a random student and a teacher that reads patch colours, on a few small made-up sweeps."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.evaluation.metrics import visible_points
from tttkd_ros.evaluation.replay import CONTROLS, RunConfig, replay
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.methods import METHODS
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.weights import Weights

CAMERA = CameraModel(width=32, height=16, fx=16.0, fy=16.0, cx=16.0, cy=8.0)
FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


class ColourTeacher:
    """Patch features that are the patch's mean colour through a fixed random matrix. 4x8 patches."""

    dim, grid = 8, (4, 8)

    def __init__(self):
        self._mix = torch.randn(3, self.dim, generator=torch.Generator().manual_seed(3))

    def __call__(self, images):
        patches = torch.stack([torch.tensor(i).float().reshape(4, 4, 8, 4, 3).mean((1, 3)) for i in images])
        return (patches / 255 - 0.5) @ self._mix


UNLIKE_PAPER = {
    "learning_rate": 1.0, "bn_momentum": 0.1, "steps": 7, "rotations": 2, "crop": 1.0, "guard": True,
    "source_anchoring": 0.1, "seconds": 1e-9,
}  # fmt: skip


@pytest.fixture(scope="module")
def drive():
    """Six sweeps of 600 points, half of them behind the camera, with truth for all but ten."""
    generator = np.random.default_rng(0)
    frames = []
    for index in range(6):
        points = generator.uniform((-9, -4, -2), (9, 4, 2), (600, 3)).astype(np.float32)
        labels = (points[:, 1] > 0).astype(np.uint8)
        labels[:10] = UNLABELLED
        image = generator.integers(0, 255, (16, 32, 3)).astype(np.uint8)
        view = View("camera", 1000 + index, image, CAMERA, FORWARD)
        frames.append(Frame(1000 + index, points, (view,), labels=labels))
    return frames


@pytest.fixture(scope="module")
def student(drive):
    torch.manual_seed(0)
    options = dict(levels=2)
    config = StudentConfig(options=options, voxel_size=0.4, teacher_dim=ColourTeacher.dim, teacher_input=(16, 32))
    student = Student(config)
    with torch.no_grad():
        logits = student.logits(student.eval()(torch.tensor(drive[0].points)))
        student.class_head[-1].bias -= logits.mean(0)  # so that no class wins everywhere, whatever is learnt
    return student


def run(drive, student, name="ttt-kd-o", **settings):
    config = TTTConfig(**{"stride": 1, "min_points": 10, "guard": False} | settings.pop("config", {}))
    return replay(drive, student, ColourTeacher(), RunConfig(name, config, **settings))


def test_every_point_with_truth_is_counted_once_and_split_by_what_the_camera_sees(drive, student):
    result = run(drive, student, "frozen")
    assert result.matrices.sum((1, 2, 3)).tolist() == [590] * 6
    seen = [int((visible_points(frame) & (frame.labels != UNLABELLED)).sum()) for frame in drive]
    assert result.matrices[:, 1].sum((1, 2)).tolist() == seen
    assert 0 < min(seen) < 590


def test_online_steps_keep_to_the_stride_and_change_later_predictions_only(drive, student):
    frozen, adapted = run(drive, student, "frozen"), run(drive, student, config={"stride": 2, "learning_rate": 5.0})
    assert (adapted.steps_tried, adapted.steps_accepted) == (3, 3)
    assert [stamp for stamp, _ in adapted.losses] == [1000, 1002, 1004]
    np.testing.assert_array_equal(adapted.matrices[0], frozen.matrices[0])
    assert (adapted.matrices[1:] != frozen.matrices[1:]).any()


def test_offline_sweeps_do_not_depend_on_one_another(drive, student):
    settings = {"name": "ttt-kd", "config": {"steps": 3, "learning_rate": 1.0}}
    forth, back = run(drive, student, **settings), run(drive[::-1], student, **settings)
    np.testing.assert_array_equal(forth.matrices, back.matrices[::-1])
    assert forth.steps_accepted == len(drive)


def test_offline_steps_ignore_the_guard(drive, student):
    guarded = {"steps": 3, "learning_rate": 1.0, "guard": True, "min_alignment": -2.0}
    runs = [run(drive, student, "ttt-kd", config=guarded | {"guard": guard}) for guard in (True, False)]
    assert runs[0].settings["guard"] is False
    np.testing.assert_array_equal(*(each.matrices for each in runs))
    assert runs[0].losses == runs[1].losses


@pytest.fixture(scope="module")
def injecting(student):
    torch.manual_seed(1)
    made = Student(replace(student.config, injection="decoder", image_dim=ColourTeacher.dim)).eval()
    with torch.no_grad():
        made.class_head[-1].weight *= 20
    return made


@pytest.mark.parametrize("name", ["frozen", "ttt-kd-o", "ttt-kd"])
def test_a_student_with_injection_predicts_with_the_images_that_a_run_shows(drive, injecting, name):
    settings = {"injects": True, "config": {"learning_rate": 1e-5, "bn_momentum": 0.0}}
    whole = run(drive, injecting, name, **settings)
    blind = run([replace(frame, views=()) for frame in drive], injecting, "frozen", injects=True)
    without, other = (run(drive, injecting, name, **settings, control=control) for control in CONTROLS[::-2])
    np.testing.assert_array_equal(without.matrices.sum(1), blind.matrices.sum(1))
    assert (whole.matrices != without.matrices).any() and (whole.matrices != other.matrices).any()
    assert whole.title != without.title


def test_a_run_that_injects_says_which_images_it_lacked(drive, injecting):
    cases = {
        "": [], "camera has no image for 6 of 6 sweeps: it is late": [{"camera": "it is late"}] * 6,
        "no sweep has an image, so the student predicts without": [{}] * 6,
    }
    for problem, missing in cases.items():
        frames = [replace(frame, views=(), missing=reasons) for frame, reasons in zip(drive, missing, strict=False)]
        result = run(frames or drive, injecting, "frozen", injects=True)
        assert problem in result.problems if problem else result.problems == ()
        assert run(frames or drive, injecting, "frozen", injects=True, control="no-image").problems == ()


def test_the_teacher_of_an_injecting_student_runs_once_a_sweep(drive, injecting):
    teacher, calls = ColourTeacher(), []
    counted = type("Counted", (ColourTeacher,), {"__call__": lambda self, images: calls.append(1) or teacher(images)})()
    config = TTTConfig(stride=1, min_points=10, guard=False)
    assert replay(drive, injecting, counted, RunConfig("ttt-kd-o", config, injects=True)).steps_accepted == len(drive)
    assert len(calls) == len(drive)


def test_images_that_the_guard_rejects_are_not_injected_from_the_next_sweep_on(drive, injecting):
    steps = {"learning_rate": 1e-5, "bn_momentum": 0.0, "min_alignment": 2.0}
    guarded = run(drive, injecting, injects=True, config=steps | {"guard": True})
    trusting, blind = (run(drive, injecting, "frozen", injects=True, control=control) for control in (None, "no-image"))
    assert guarded.steps_accepted == 0
    labels = [each.matrices.sum(1) for each in (guarded, trusting, blind)]
    np.testing.assert_array_equal(labels[0][0], labels[1][0])
    np.testing.assert_array_equal(labels[0][1:], labels[2][1:])
    assert (labels[1][1:] != labels[2][1:]).any()


def test_an_injecting_student_needs_a_teacher(drive, injecting):
    with pytest.raises(ValueError, match="the student takes image features and needs a teacher"):
        replay(drive, injecting, None, RunConfig("frozen"))


def test_equal_runs_give_equal_results(drive, student):
    settings = {"config": {"learning_rate": 1.0, "kd_points": 50}, "seed": 4}
    first, second = (json.dumps(run(drive, student, **settings).summary()) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(run(drive, student, **settings).matrices, run(drive, student, **settings).matrices)


def test_the_student_given_is_not_changed(drive, student):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    run(drive, student, config={"learning_rate": 1.0})
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


class BlindAdapter:
    """Raises if it is given labels, and learns nothing otherwise."""

    def __init__(self, student, teacher, seed):
        self._weights = Weights.copied(0, student.backbone)

    def step(self, frame, config):
        assert frame.labels is None
        return StepReport(frame.stamp, 0, False, "blind")

    def weights(self):
        return self._weights

    def load_weights(self, weights):
        pass

    def close(self):
        pass


@pytest.mark.parametrize(
    ("name", "control"),
    [*((name, None) for name, spec in METHODS.items() if spec.build), *(("ttt-kd-o", control) for control in CONTROLS)],
)
def test_no_adapter_gets_labels(drive, student, monkeypatch, name, control):
    monkeypatch.setitem(METHODS, name, replace(METHODS[name], build=BlindAdapter))
    result = run(drive, student, name, control=control)
    assert result.rejections == {"blind": len(drive)}
    assert result.sweeps_with_truth == len(drive)


@pytest.mark.parametrize("control", ["other-image", "mean-features"])
def test_controls_learn_from_something_else(drive, student, control):
    right = run(drive, student, config={"learning_rate": 1.0})
    wrong = run(drive, student, config={"learning_rate": 1.0}, control=control)
    assert wrong.steps_accepted == right.steps_accepted
    assert [loss for _, loss in wrong.losses] != [loss for _, loss in right.losses]


def test_without_images_the_statistics_alone_adapt(drive, student):
    result = run(drive, student, control="no-image", config={"bn_momentum": 0.005})
    frozen = run(drive, student, "frozen")
    assert (result.steps_tried, result.steps_accepted) == (len(drive), 0)
    assert (result.predicted != frozen.predicted).any()
    still = run(drive, student, control="no-image", config={"bn_momentum": 0.0})
    np.testing.assert_array_equal(still.matrices, frozen.matrices)
    assert result.matrices[:, 1].sum() == frozen.matrices[:, 1].sum() > 0  # points that a camera would see


def test_a_shift_by_whole_voxels_changes_nothing_for_a_grid_without_absolute_position(drive, student):
    shifted = run(drive, student, "frozen", shift_z=2.0)
    agreement = 1 - np.abs(shifted.matrices - run(drive, student, "frozen").matrices).sum() / shifted.matrices.sum()
    assert agreement > 0.99


def test_figures_derive_from_the_sweeps_matrices(drive, student):
    result = run(drive, student, "frozen")
    assert result.miou() == result.curve(6)[-1]
    assert result.miou(result.second_half) == result.curve(3)[-1]
    assert result.summary()["miou"] == round(result.miou(), 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"method": "eata"}, "method is 'eata'"), ({"method": "frozen", "control": "other-image"}, "learns from no image"),
     ({"method": "tent", "images": 1}, "learns from no image"), ({"rotations": 0}, "rotations is 0"),
     ({"control": "noise"}, "control is 'noise'"), ({"shift_z": float("nan")}, "shift_z is nan"),
     ({"images": 0}, "images is 0, expected at least 1"),
     ({"method": "dua", "learning_rate": 0.1}, "'dua' has none of its own")],
)
def test_impossible_runs_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(**settings)


@pytest.mark.parametrize("name", ["tent", "dua", "adacontrast"])
def test_methods_that_need_no_images_learn_from_every_strided_sweep(drive, student, name):
    blind = [replace(frame, views=()) for frame in drive]
    method = RunConfig(name, TTTConfig(stride=2, min_points=10))
    result, frozen = replay(blind, student, None, method), run(drive, student, "frozen")
    assert result.steps_accepted == 3 and not result.matrices[:, 1].any()
    assert (result.matrices.sum(1)[1:] != frozen.matrices.sum(1)[1:]).any()


def test_a_run_can_replace_a_baseline_s_learning_rate(drive, student):
    results = [replay(drive, student, None, RunConfig("tent", TTTConfig(stride=1, min_points=10), learning_rate=rate))
               for rate in (None, 0.0, 0.1)]
    assert len({result.matrices.tobytes() for result in results}) == 3
    assert [result.title for result in results[1:]] == ["tent, stride 1, lr 0.0", "tent, stride 1, lr 0.1"]


def test_the_papers_method_has_the_papers_settings_whatever_the_config_says():
    config = TTTConfig(stride=3, **UNLIKE_PAPER)
    paper = RunConfig("ttt-kd-o-paper", config).effective_config
    assert (paper.learning_rate, paper.steps, paper.rotations, paper.bn_momentum) == (0.1, 1, 1, 0.0)
    assert (paper.crop, paper.guard, paper.source_anchoring, paper.stride) == (0.0, False, 0.0, 3)


def test_the_papers_method_is_ttt_kd_o_with_the_papers_settings(drive, student):
    spelled = {"learning_rate": 0.1, "bn_momentum": 0.0, "steps": 1, "rotations": 1, "crop": 0.0, "guard": False}
    paper = run(drive, student, "ttt-kd-o-paper", config=UNLIKE_PAPER)
    same, other = (run(drive, student, config=config) for config in (spelled, UNLIKE_PAPER | {"guard": False}))
    assert paper.steps_accepted == len(drive)
    np.testing.assert_array_equal(paper.matrices, same.matrices)
    assert paper.losses == same.losses != other.losses
    assert paper.settings == same.settings


@pytest.mark.parametrize("method", ["ttt-kd-o", "ttt-kd"])
def test_a_limit_in_time_changes_no_result(drive, student, method):
    results = [run(drive, student, method, config={"steps": 3, "seconds": seconds}) for seconds in (1e-9, 0.0)]
    single = run(drive, student, method, config={"steps": 1})
    np.testing.assert_array_equal(*(result.matrices for result in results))
    assert results[0].losses == results[1].losses != single.losses


@pytest.mark.parametrize("method", ["ttt-kd-o", "ttt-kd-o-paper", "ttt-kd"])
def test_no_run_is_limited_in_time(method):
    assert RunConfig(method, TTTConfig(seconds=1e-3)).effective_config.seconds == 0


def test_tent_predicts_with_each_sweep_s_own_statistics(drive, student):
    first = replay(drive[:1], student, None, RunConfig("tent")).predicted
    assert (first != run(drive[:1], student, "frozen").predicted).any()


def test_a_method_that_uses_images_waits_for_one(drive, student):
    blind = [replace(frame, views=()) if index in (0, 2) else frame for index, frame in enumerate(drive)]
    assert [stamp for stamp, _ in run(blind, student, config={"stride": 2}).losses] == [1001, 1003, 1005]


def test_images_above_the_limit_are_not_used(drive, student):
    other = np.random.default_rng(5).integers(0, 255, (16, 32, 3)).astype(np.uint8)
    twice = [replace(frame, views=(frame.views[0], replace(frame.views[0], name="other", image=other)))
             for frame in drive]  # fmt: skip
    one, two = (run(twice, student, images=images) for images in (1, 2))
    assert one.losses == run(drive, student).losses != two.losses
    assert two.losses == run(twice, student).losses


def test_rotations_apply_to_every_method(drive, student):
    for name in ("frozen", "tent", "ttt-kd-o", "ttt-kd"):
        assert (run(drive, student, name, rotations=3).predicted != run(drive, student, name).predicted).any()


def test_labels_are_compared_with_those_of_the_frozen_student(drive, student):
    labels = {}
    frozen = replay(drive, student, run=RunConfig("frozen"),
                    on_sweep=lambda frame, prediction: labels.update({frame.stamp: prediction.labels}))  # fmt: skip
    again = replay(drive, student, run=RunConfig("frozen"), reference=lambda frame: labels[frame.stamp])
    assert frozen.agreement is None
    assert again.agreement.tolist() == [[600, 600]] * 6


def test_every_prediction_and_every_step_is_timed(drive, student):
    for name, steps in (("frozen", 0), ("ttt-kd-o", 6), ("ttt-kd", 6)):
        timing = run(drive, student, name).timing
        assert (len(timing.predictions), len(timing.steps)) == (6, steps)
        assert (timing.predictions > 0).all() and (timing.steps > 0).all()


def test_a_prediction_s_time_excludes_steps(drive, student, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr("tttkd_ros.evaluation.replay.perf_counter", lambda: next(ticks))
    assert run(drive, student, "ttt-kd-o").timing.predictions.tolist() == [1] * 6


def test_sweeps_without_truth_are_predicted_and_learnt_from(drive, student):
    result = run([replace(frame, labels=None) for frame in drive], student)
    assert result.steps_accepted == 6 and result.predicted.sum() == 3600
    assert result.sweeps_with_truth == 0 and np.isnan(result.miou())


def test_what_cannot_be_scored_is_refused(drive, student):
    with pytest.raises(ValueError, match="needs a teacher"):
        replay(drive, student)
    with pytest.raises(ValueError, match="no sweep"):
        replay([], student, run=RunConfig("frozen"))
