"""The properties that all compared methods share."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.adacontrast import AdaContrast
from tttkd_ros.baselines.dua import Dua
from tttkd_ros.baselines.mm_tta import MMTTA
from tttkd_ros.baselines.prototypes import Prototypes
from tttkd_ros.baselines.tent import Tent
from tttkd_ros.baselines.xmuda import XMuda
from tttkd_ros.classes import OUTDOOR
from tttkd_ros.methods import METHODS as SPECS
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.teacher.image_head import ImageHead

CONFIG = TTTConfig(stride=1, steps=1)
METHODS = {
    "tent": Tent, "dua": Dua, "prototypes": Prototypes, "adacontrast": AdaContrast, "xmuda": XMuda, "mm-tta": MMTTA,
}  # fmt: skip
CROSS_MODAL = ("xmuda", "mm-tta")
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
ADAPTED = {  # None: all tensors of the backbone
    "tent": ("weight", "bias"), "dua": ("running_mean", "running_var"), "prototypes": (), "adacontrast": None,
    "xmuda": NORM_TENSORS, "mm-tta": NORM_TENSORS,
}  # fmt: skip
# Sweeps, and the least gain in accuracy over the source model after them.
IMPROVEMENT = {
    "tent": (12, 0.07), "dua": (6, 0.03), "prototypes": (12, 0.03), "adacontrast": (9, 0.05), "xmuda": (12, 0.05),
    "mm-tta": (40, 0.03),
}  # fmt: skip


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def make_adapter(name, town, **settings):
    arguments = (town.student, town.teacher, town.head) if name in CROSS_MODAL else (town.student,)
    return METHODS[name](*arguments, **settings)


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.fixture
def make(name, town):
    return lambda: make_adapter(name, town, learning_rate=1e-2 if SPECS[name].own_learning_rate else None)


def run(adapter, town, seeds, config=CONFIG):
    return [adapter.step(town.frame(seed), config) for seed in seeds]


def test_the_given_student_and_head_do_not_change(make, town):
    given = (town.student, town.head)
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in given]
    assert run(make(), town, [0])[0].accepted
    assert all(same(old, module.state_dict()) for old, module in zip(before, given, strict=True))
    assert not town.student.training
    assert all(p.requires_grad and p.grad is None for p in town.student.backbone.parameters())


def test_an_accepted_step_changes_the_tensors_of_the_method_only(name, make, town):
    adapter = make()
    shipped = adapter.weights()
    copies = {key: tensor.clone() for key, tensor in shipped.tensors.items()}
    report = run(adapter, town, [0])[0]
    assert (report.accepted, report.reason, report.version, report.steps) == (True, "", 1, 1)
    assert report.points > 100
    assert adapter.weights().version == 1
    changed = {key for key, tensor in adapter.weights().tensors.items() if not torch.equal(tensor, copies[key])}
    kinds = ADAPTED[name]
    norm = {key for key in copies if ".activation.0." in f".{key}"}
    prototypes = {key for key in copies if key.startswith("prototypes.")}
    expected = set(copies) if kinds is None else prototypes | {key for key in norm if key.endswith(kinds)}
    assert changed == expected
    assert same(shipped.tensors, copies), "published weights changed with a later step"
    assert shipped.fit(Weights.copied(0, SPECS[name].predictor(town.student).backbone).tensors)


def test_loading_the_shipped_weights_repeats_the_run(make, town):
    adapter = make()
    shipped, runs = adapter.weights(), []
    for _ in range(2):
        run(adapter, town, range(2))
        runs.append(adapter.weights().tensors)
        adapter.load_weights(shipped)
        assert same(adapter.weights().tensors, shipped.tensors)
        assert adapter.weights().version == 0
    assert same(*runs)


def test_loading_other_weights_keeps_their_version(make, town):
    first, second = make(), make()
    run(first, town, range(2))
    second.load_weights(first.weights())
    assert same(second.weights().tensors, first.weights().tensors)
    assert run(second, town, [5])[0].version == 3


def test_weights_of_another_backbone_are_rejected(make, student):
    with pytest.raises(ValueError, match="another backbone"):
        make().load_weights(Weights(0, dict(list(Weights.copied(0, student.backbone).tensors.items())[1:])))


def test_labels_are_not_used(make, town):
    labelled, unlabelled = make(), make()
    for seed in range(2):
        frame = town.frame(seed)
        labelled.step(frame, CONFIG)
        unlabelled.step(dataclasses.replace(frame, labels=None), CONFIG)
    assert same(labelled.weights().tensors, unlabelled.weights().tensors)


def with_points(change):
    return lambda frame: dataclasses.replace(frame, points=change(frame.points))


REJECTED = {
    "few points": (with_points(lambda points: points[::50]), "points to learn from, expected 32"),
    "small cloud": (with_points(lambda points: points * np.float32(0.02) + np.float32([3, 0, 0])), "no statistics"),
    "empty cloud": (with_points(lambda points: points[:0]), "0 points"),
}


@pytest.mark.parametrize(("change", "reason"), REJECTED.values(), ids=REJECTED)
def test_a_rejected_frame_changes_nothing(make, town, change, reason):
    adapter = make()
    run(adapter, town, [0])
    expected = adapter.weights().tensors
    updates, draws = adapter._state.updates, adapter._state.generator.get_state()
    report = adapter.step(change(town.frame(1)), CONFIG)
    assert not report.accepted
    assert reason in report.reason
    assert report.version == 1
    assert same(adapter.weights().tensors, expected)
    assert adapter._state.updates == updates
    assert torch.equal(adapter._state.generator.get_state(), draws)


def test_a_step_that_is_not_finite_changes_nothing(make, town, monkeypatch):
    tried, untouched = make(), make()
    for adapter in (tried, untouched):
        run(adapter, town, [0])
    update = type(tried)._update

    def spoil(adapter, state, inputs):
        loss = update(adapter, state, inputs)
        with torch.no_grad():
            next(state.student.backbone.parameters()).fill_(torch.nan)
        return loss

    monkeypatch.setattr(type(tried), "_update", spoil)
    report = run(tried, town, [1])[0]
    monkeypatch.undo()
    assert report.reason == "the weights are not finite after the step"
    for adapter in (tried, untouched):
        assert run(adapter, town, [2])[0].version == 2
    assert same(tried.weights().tensors, untouched.weights().tensors)


def test_a_loss_that_is_not_finite_is_reported(make, town, monkeypatch):
    adapter = make()
    monkeypatch.setattr(type(adapter), "_update", lambda *_: float("nan"))
    report = run(adapter, town, [0])[0]
    assert (report.accepted, report.reason) == (False, "the loss is not finite")


def test_steps_are_updates_per_frame(make, town):
    once, twice = make(), make()
    run(once, town, [0, 0])
    report = run(twice, town, [0], dataclasses.replace(CONFIG, steps=2))[0]
    assert (report.steps, report.version) == (2, 1)
    assert same(once.weights().tensors, twice.weights().tensors)


def test_points_out_of_range_do_not_change_a_step(make, town):
    frame = town.frame(0)
    invalid = np.array([[np.nan, 0, 0], [5, 0, np.inf], [1e8, 0, 0]], np.float32)
    mixed = dataclasses.replace(frame, points=np.concatenate([invalid, frame.points]), labels=None)
    reports = [make().step(each, CONFIG) for each in (frame, mixed)]
    assert reports[0].points == reports[1].points
    assert reports[1].accepted


def test_only_the_cross_modal_methods_need_a_camera(name, make, town):
    report = make().step(dataclasses.replace(town.frame(0), views=()), CONFIG)
    assert report.accepted == (name not in CROSS_MODAL)
    assert report.accepted or report.points == 0


def test_a_negative_learning_rate_is_rejected(name, town):
    with pytest.raises(ValueError, match="learning_rate is -1.0, (but (Dua|Prototypes) has none|expected)"):
        make_adapter(name, town, learning_rate=-1.0)


@pytest.mark.parametrize("method", [XMuda, MMTTA])
def test_an_image_head_of_other_features_is_rejected(method, town):
    with pytest.raises(ValueError, match="5 features.*6 features"):
        method(town.student, town.teacher, ImageHead(OUTDOOR, 5))


def test_it_improves_on_the_source_model_under_noise(name, make, town):
    sweeps, gain = IMPROVEMENT[name]
    adapter = make()
    run(adapter, town, range(sweeps))
    assert town.accuracy(SPECS[name].predictor(town.student), adapter.weights()) > town.accuracy() + gain
