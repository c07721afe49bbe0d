import dataclasses

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.batch_norm import norms
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.guard import ALIGNMENT_WINDOW
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.segmenter.weights import Weights

# The toy teacher has nothing that neighbours differ in.
CONFIG = TTTConfig(stride=1, learning_rate=1.0, steps=1, rotations=1, seconds=0.0, bn_momentum=0.0, guard=False)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("momentum", [0.0, 0.005])
def test_the_loss_goes_down(student, teacher, make_frame, momentum):
    adapter, config = OnlineTTTKD(student, teacher), dataclasses.replace(CONFIG, bn_momentum=momentum)
    losses = [adapter.step(make_frame(seed=seed), config).loss for seed in range(30)]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2


def test_frozen_statistics_and_projectors_never_change(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    before = {name: value.clone() for name, value in adapter._student.state_dict().items()}
    for seed in range(5):
        assert adapter.step(make_frame(seed=seed), CONFIG).accepted
    after = adapter._student.state_dict()
    trained = {f"backbone.{name}" for name, _ in adapter._student.backbone.named_parameters()}
    frozen = before.keys() - trained
    assert {"teacher_mean", "class_head.0.weight", "backbone.activation.0.running_var"} <= frozen
    assert all(before[name].numpy().tobytes() == after[name].numpy().tobytes() for name in frozen)
    affine = [name for name in trained if name.endswith("activation.0.weight")]
    assert affine
    assert any(not torch.equal(before[name], after[name]) for name in affine)


def test_steps_share_the_voxels_of_a_rotation(student, teacher, make_frame, monkeypatch):
    adapter, clouds = OnlineTTTKD(student, teacher), []
    prepare = adapter._student.prepare
    monkeypatch.setattr(adapter._student, "prepare", lambda points: clouds.append(points) or prepare(points))
    report = adapter.step(make_frame(), dataclasses.replace(CONFIG, steps=10, rotations=4))
    assert (report.accepted, report.steps, len(clouds)) == (True, 10, 4)
    distances = [cloud.xyz.norm(dim=1) for cloud in clouds]
    assert all(torch.allclose(each, distances[0], atol=1e-4) for each in distances)
    assert torch.allclose(clouds[1].xyz[:, 0].abs(), clouds[0].xyz[:, 1].abs(), atol=1e-4)  # a quarter turn


def test_the_rotations_go_on_from_sweep_to_sweep(student, teacher, make_frame, monkeypatch):
    adapter, turns = OnlineTTTKD(student, teacher), []
    features = adapter._algorithm.features
    record = lambda scene, turn: turns.append(turn) or features(scene, turn)  # noqa: E731
    monkeypatch.setattr(adapter._algorithm, "features", record)
    for seed in range(3):
        assert adapter.step(make_frame(seed=seed), dataclasses.replace(CONFIG, steps=3, rotations=4)).accepted
    assert turns == [0, 0.25, 0.5, 0.75, 0, 0.25, 0.5, 0.75, 0]


def test_no_step_begins_after_the_time_is_up(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    assert adapter.step(make_frame(), dataclasses.replace(CONFIG, steps=50, seconds=1e-6)).steps == 1
    assert adapter.step(make_frame(), dataclasses.replace(CONFIG, steps=50, seconds=60.0)).steps == 50


UPDATING = dataclasses.replace(CONFIG, bn_momentum=0.2)


def statistics(weights):
    return {name: tensor for name, tensor in weights.tensors.items() if name.endswith(("running_mean", "running_var"))}


def test_statistics_move_towards_those_of_the_sweep(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    seen = []
    first = adapter._student.backbone.activation[0]
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
    mean, variance = first.running_mean.clone(), first.running_var.clone()
    report = adapter.step(make_frame(views=()), UPDATING)
    share = 0.2 + 0.1 * 0.94
    assert torch.allclose(first.running_mean, (1 - share) * mean + share * seen[0].mean(0), atol=1e-6)
    assert torch.allclose(first.running_var, (1 - share) * variance + share * seen[0].var(0), atol=1e-6)
    assert report.bn_updated


def test_updated_statistics_leave_the_projectors_unchanged(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    before = {name: value.clone() for name, value in adapter._student.state_dict().items()}
    adapter.step(make_frame(), UPDATING)
    after = adapter._student.state_dict()
    projectors = [name for name in before if not name.startswith("backbone.")]
    assert projectors
    assert all(torch.equal(before[name], after[name]) for name in projectors)


def test_statistics_are_updated_and_published_without_an_image(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    before = adapter.weights()
    report = adapter.step(make_frame(views=()), UPDATING)
    after = adapter.weights()
    assert (report.accepted, report.bn_updated, report.version) == (False, True, 1)
    assert not same(statistics(before), statistics(after))
    learnt = before.tensors.keys() - statistics(before)
    assert learnt
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in learnt)


def test_a_cloud_too_small_for_statistics_changes_nothing(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    frame = make_frame()
    report = adapter.step(dataclasses.replace(frame, points=frame.points[:1]), UPDATING)
    assert (report.bn_updated, report.version) == (False, 0)
    assert same(adapter.weights().tensors, OnlineTTTKD(student, teacher).weights().tensors)


def test_statistics_that_are_not_finite_are_undone(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    with torch.no_grad():
        norms(adapter._student.backbone)[0].weight.fill_(3e38)
    before = adapter.weights()
    report = adapter.step(make_frame(), UPDATING)
    assert (report.accepted, report.bn_updated, report.version) == (False, False, 0)
    assert same(adapter.weights().tensors, before.tensors)


def test_the_given_student_is_not_changed(student, teacher, make_frame):
    before = {name: value.clone() for name, value in student.state_dict().items()}
    OnlineTTTKD(student, teacher).step(make_frame(), CONFIG)
    assert same(before, student.state_dict())
    assert all(parameter.grad is None for parameter in student.parameters())


def test_a_reset_repeats_the_same_run(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher, seed=3)
    shipped = adapter.weights()
    few = dataclasses.replace(CONFIG, kd_points=50)  # so that chance has a part in it
    runs = []
    for _ in range(2):
        for seed in range(3):
            adapter.step(make_frame(seed=seed), few)
        runs.append(adapter.weights())
        adapter.load_weights(shipped)
        assert same(adapter.weights().tensors, shipped.tensors)
        assert adapter.weights().version == 0
    assert same(runs[0].tensors, runs[1].tensors)
    assert not same(runs[0].tensors, shipped.tensors)


def test_two_adapters_of_the_same_seed_agree_bit_for_bit(student, teacher, make_frame):
    adapters = [OnlineTTTKD(student, teacher, seed=1) for _ in range(2)]
    for adapter in adapters:
        adapter.step(make_frame(), dataclasses.replace(CONFIG, kd_points=50, steps=2))
    assert same(*(adapter.weights().tensors for adapter in adapters))


def test_the_version_rises_with_accepted_steps_only(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    versions = [adapter.step(frame, CONFIG).version for frame in (make_frame(), make_frame(views=()), make_frame())]
    assert versions == [1, 1, 2]


def test_published_weights_do_not_change_with_later_steps(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    weights = adapter.weights()
    copies = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    adapter.step(make_frame(), CONFIG)
    assert same(weights.tensors, copies)


def test_a_report_describes_the_step(student, teacher, make_frame):
    config = TTTConfig(stride=7, learning_rate=0.05, steps=3, guard=False)
    report = OnlineTTTKD(student, teacher).step(make_frame(stamp=42), config)
    assert (report.stamp, report.accepted, report.reason, report.version) == (42, True, "", 1)
    assert (report.steps, report.learning_rate, report.stride, report.cameras) == (3, 0.05, 7, ("front",))
    assert report.loss == -report.cosine
    assert report.points > 100
    assert report.seconds > 0


class Spoilt:
    """A teacher whose features are spoilt."""

    def __init__(self, teacher, spoil):
        self.dim, self.grid, self._teacher, self._spoil = teacher.dim, teacher.grid, teacher, spoil

    def __call__(self, images):
        return self._spoil(self._teacher(images))


def spoil_gradient(value):
    """Make one element of the gradient `value`, in the first weights that are trained."""

    def hook(gradient):
        gradient = gradient.clone()
        gradient.view(-1)[0] = value
        return gradient

    return lambda adapter: adapter._algorithm.parameters[0].register_hook(hook).remove


def spoil_features(adapter):
    algorithm = adapter._algorithm
    healthy, algorithm.teacher = algorithm.teacher, Spoilt(algorithm.teacher, lambda features: features * torch.nan)
    return lambda: setattr(algorithm, "teacher", healthy)


def spoil_nothing(_):
    return lambda: None


BAD_STEPS = {
    "features": (spoil_features, CONFIG, "the loss is not finite"),
    "gradient": (spoil_gradient(torch.inf), CONFIG, "the gradient is not finite"),
    "weights": (spoil_gradient(3e38), dataclasses.replace(CONFIG, learning_rate=10.0), "the weights are not finite"),
    "second step": (spoil_gradient(3e38), dataclasses.replace(CONFIG, learning_rate=10.0, steps=5), "is not finite"),
    "view": (
        spoil_nothing, dataclasses.replace(CONFIG, min_points=100_000),
        "points in view of a camera, expected at least 100000",
    ),
}


@pytest.mark.parametrize(("spoil", "config", "reason"), BAD_STEPS.values(), ids=BAD_STEPS)
def test_a_rejected_step_leaves_no_trace(student, teacher, make_frame, spoil, config, reason):
    good = dataclasses.replace(CONFIG, kd_points=50, rotations=4)  # a disturbed random state or turn would show
    tried, spared = OnlineTTTKD(student, teacher), OnlineTTTKD(student, teacher)
    for adapter in (tried, spared):
        assert adapter.step(make_frame(seed=1), good).accepted
    cure = spoil(tried)
    report = tried.step(make_frame(seed=5), config)
    cure()
    assert not report.accepted
    assert reason in report.reason
    assert report.version == 1
    assert same(tried.weights().tensors, spared.weights().tensors)
    for adapter in (tried, spared):
        assert adapter.step(make_frame(seed=2), good).version == 2
    assert same(tried.weights().tensors, spared.weights().tensors)


def test_a_step_that_raises_leaves_no_trace(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, Spoilt(teacher, lambda features: features[..., :2]))
    with pytest.raises(RuntimeError):
        adapter.step(make_frame(), CONFIG)
    assert same(adapter.weights().tensors, OnlineTTTKD(student, teacher).weights().tensors)


def test_a_frame_without_an_image_is_rejected(student, teacher, make_frame):
    report = OnlineTTTKD(student, teacher).step(make_frame(views=()), CONFIG)
    assert (report.accepted, report.reason, report.points, report.cameras) == (False, "no camera image", 0, ())


def test_points_out_of_range_do_not_disturb_a_step(student, teacher, make_frame):
    frame = make_frame()
    odd = np.array([[np.nan, 0, 0], [5, 0, np.inf], [1e8, 0, 0]], np.float32)
    mixed = dataclasses.replace(frame, points=np.concatenate([odd, frame.points]))
    adapters = [OnlineTTTKD(student, teacher) for _ in range(2)]
    reports = [adapter.step(f, CONFIG) for adapter, f in zip(adapters, (frame, mixed), strict=True)]
    assert reports[1].accepted
    assert reports[0].loss == pytest.approx(reports[1].loss, abs=1e-4)  # all points, in another order
    assert reports[0].points == reports[1].points


def test_an_empty_sweep_is_rejected(student, teacher, make_frame):
    frame = dataclasses.replace(make_frame(), points=np.empty((0, 3), np.float32))
    assert "0 points in view" in OnlineTTTKD(student, teacher).step(frame, CONFIG).reason


def test_kd_points_limits_the_points_of_a_step(student, teacher, make_frame, monkeypatch):
    sizes = []
    predict = type(student).predict_teacher_features
    record = lambda self, features: sizes.append(len(features)) or predict(self, features)  # noqa: E731
    monkeypatch.setattr(type(student), "predict_teacher_features", record)
    OnlineTTTKD(student, teacher).step(make_frame(), dataclasses.replace(CONFIG, kd_points=50, steps=2))
    measured, *drawn = sizes
    assert drawn == [50, 50]
    assert measured > 50


def test_all_visible_points_are_trained_on(student, teacher, make_frame, monkeypatch):
    sizes = []
    predict = type(student).predict_teacher_features
    record = lambda self, features: sizes.append(len(features)) or predict(self, features)  # noqa: E731
    monkeypatch.setattr(type(student), "predict_teacher_features", record)
    report = OnlineTTTKD(student, teacher).step(make_frame(), CONFIG)
    measured, drawn = sizes
    assert measured == drawn == report.points


def test_a_teacher_of_another_width_is_refused(student, teacher):
    teacher.dim = 384
    with pytest.raises(ValueError, match=r"384.*6 \(toy\)"):
        OnlineTTTKD(student, teacher)


GUARDED = TTTConfig(stride=1, min_alignment=0.02, bn_momentum=0.0)


@pytest.fixture
def run(student, teacher, make_frame, monkeypatch):
    """run(*alignments): the reports of a step on each, and the weights before and after each."""

    def run(*alignments):
        adapter, reports = OnlineTTTKD(student, teacher), []
        weights = [own_weights(adapter)]
        for stamp, value in enumerate(alignments):
            monkeypatch.setattr("tttkd_ros.adaptation.online.measure", lambda *_, value=value: value)
            reports.append(adapter.step(fresh(make_frame(stamp=stamp, seed=stamp)), GUARDED))
            weights.append(own_weights(adapter))
        return reports, weights

    return run


def own_weights(adapter):
    """The weights of the adapter."""
    return Weights.copied(0, adapter._student.backbone)


def fresh(frame):
    """With another image, so that it is not frozen."""
    view = frame.views[0]
    return dataclasses.replace(frame, views=(dataclasses.replace(view, image=view.image + np.uint8(frame.stamp)),))


def test_a_second_rejection_in_a_row_changes_nothing(run):
    reports, weights = run(*[0.05] * ALIGNMENT_WINDOW, -0.05, -0.05)
    assert [report.accepted for report in reports] == [True] * ALIGNMENT_WINDOW + [False] * 2
    assert "alignment -0.050" in reports[-1].reason
    assert (reports[-1].steps, reports[-1].version) == (0, ALIGNMENT_WINDOW)
    assert same(weights[-1].tensors, weights[-2].tensors)


def test_a_frozen_image_is_rejected_before_the_teacher_runs(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    for stamp in range(2):
        report = adapter.step(make_frame(stamp=stamp), GUARDED)
    assert "frozen" in report.reason
    assert teacher.calls == 1


def test_the_report_says_that_the_guard_paused(run):
    reports, _ = run(*[-0.05] * GUARDED.patience)
    assert [report.paused for report in reports] == [False] * (GUARDED.patience - 1) + [True]


def test_the_report_says_that_the_guard_distrusts_the_images_until_it_passes_some(run):
    reports, _ = run(*[0.05] * ALIGNMENT_WINDOW, -0.05, 0.05)
    assert [report.distrusted for report in reports] == [False] * ALIGNMENT_WINDOW + [True, False]


def test_images_that_the_guard_passes_are_trusted_even_if_the_step_is_undone(student, teacher, make_frame, monkeypatch):
    adapter, alignments = OnlineTTTKD(student, teacher), iter((-0.05, 0.5))
    monkeypatch.setattr(adapter, "_measure", lambda features, scene: next(alignments))
    losses = iter((-0.5, -0.1))
    monkeypatch.setattr(adapter._algorithm, "descend", lambda *given: (next(losses), 1.0))
    config = dataclasses.replace(GUARDED, steps=2, seconds=0.0)
    reports = [adapter.step(fresh(make_frame(stamp=stamp, seed=stamp)), config) for stamp in (0, 1)]
    assert [report.distrusted for report in reports] == [True, False] and "loss rose" in reports[1].reason


@pytest.mark.parametrize(("losses", "accepted"), [((-0.5, -0.3, -0.45), True), ((-0.5, -0.6, -0.39), False)])
def test_steps_that_raise_the_loss_are_undone(student, teacher, make_frame, monkeypatch, losses, accepted):
    adapter, values = OnlineTTTKD(student, teacher), iter(losses)
    descend = adapter._algorithm.descend
    monkeypatch.setattr(adapter._algorithm, "descend", lambda *given: (next(values), descend(*given)[1]))
    before = own_weights(adapter)
    report = adapter.step(make_frame(), dataclasses.replace(GUARDED, min_alignment=-2.0, steps=3, seconds=0.0))
    assert report.accepted is accepted and not report.distrusted
    assert same(own_weights(adapter).tensors, before.tensors) is not accepted
    assert report.reason == ("" if accepted else "the loss rose from -0.50 to -0.39 in 3 steps: the learning rate "
                             f"{GUARDED.learning_rate:g} is too high for this student, lower it")


LIMITED = TTTConfig(stride=1, bn_momentum=0.005, min_alignment=-2.0, scene_steps=3)


def of_scene(make_frame, stamp, metres=0.0):
    """A sweep some metres further on."""
    frame = fresh(make_frame(stamp=stamp, seed=stamp))
    return dataclasses.replace(frame, points=frame.points - np.float32([metres, 0, 0]))


@pytest.fixture
def limited(student, teacher, make_frame):
    """An adapter at its scene limit, after three steps."""
    adapter = OnlineTTTKD(student, teacher)
    assert [adapter.step(of_scene(make_frame, stamp), LIMITED).accepted for stamp in range(3)] == [True] * 3
    return adapter


def test_steps_are_skipped_from_the_scene_limit_until_the_scene_changes(limited, teacher, make_frame):
    before, version = own_weights(limited), limited.weights().version
    for stamp in range(3, 6):
        report = limited.step(of_scene(make_frame, stamp), LIMITED)
        assert (report.accepted, report.skipped, report.bn_updated, report.version) == (False, True, False, version)
        assert "enough learned from this scene: 3 sweeps" in report.reason
    assert same(own_weights(limited).tensors, before.tensors)
    assert teacher.calls == 3
    report = limited.step(of_scene(make_frame, 6, metres=4.0), LIMITED)
    assert (report.accepted, report.skipped, report.bn_updated, report.version) == (True, False, True, version + 1)


def test_the_scene_limit_counts_sweeps(student, teacher, make_frame):
    adapter, config = OnlineTTTKD(student, teacher), dataclasses.replace(LIMITED, steps=2)
    reports = [adapter.step(of_scene(make_frame, stamp), config) for stamp in range(4)]
    assert [report.skipped for report in reports] == [False, False, False, True]


def test_the_scene_limit_ignores_rejected_steps(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    for stamp in range(4):
        frame = of_scene(make_frame, stamp)
        assert not adapter.step(dataclasses.replace(frame, views=()), LIMITED).accepted
    assert adapter.step(of_scene(make_frame, 4), LIMITED).accepted


def test_the_scene_limit_holds_for_statistics(student, teacher, make_frame):
    adapter = OnlineTTTKD(student, teacher)
    reports = [
        adapter.step(dataclasses.replace(of_scene(make_frame, stamp), views=()), LIMITED) for stamp in range(5)
    ]
    assert [report.bn_updated for report in reports] == [True, True, True, False, False]
    assert {report.reason for report in reports} == {"no camera image"}
    assert not any(report.skipped for report in reports)


def test_loaded_weights_restart_the_scene(limited, make_frame):
    limited.load_weights(limited.weights())
    assert limited.step(of_scene(make_frame, 3), LIMITED).accepted


def test_a_higher_scene_limit_applies_at_once(limited, make_frame):
    assert limited.step(of_scene(make_frame, 3), dataclasses.replace(LIMITED, scene_steps=4)).accepted


def test_without_the_guard_there_is_no_scene_limit(student, teacher, make_frame):
    adapter, config = OnlineTTTKD(student, teacher), dataclasses.replace(LIMITED, guard=False)
    assert all(adapter.step(of_scene(make_frame, stamp), config).accepted for stamp in range(6))


def test_anchoring_leads_back_to_the_shipped_weights(student, teacher, make_frame):
    adapter, shipped = OnlineTTTKD(student, teacher), OnlineTTTKD(student, teacher).weights()
    adapter.step(make_frame(), dataclasses.replace(CONFIG, source_anchoring=1.0))
    assert same(adapter.weights().tensors, shipped.tensors)
