"""What all methods that TTT-KD is compared with have in common."""

import dataclasses

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.baselines.adacontrast import AdaContrast
from tttkd_ros.baselines.dua import Dua
from tttkd_ros.baselines.mm_tta import MMTTA
from tttkd_ros.baselines.tent import Tent
from tttkd_ros.baselines.xmuda import XMuda
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.teacher.image_head import ImageHead

CONFIG = TTTConfig(stride=1)
MAKE = {
    "tent": lambda town, seed=0: Tent(town.student, 1e-2, seed),
    "dua": lambda town, seed=0: Dua(town.student, seed),
    "adacontrast": lambda town, seed=0: AdaContrast(town.student, 1e-2, seed),
    "xmuda": lambda town, seed=0: XMuda(town.student, town.teacher, town.head, 1e-2, seed),
    "mm-tta": lambda town, seed=0: MMTTA(town.student, town.teacher, town.head, 1e-2, seed),
}
CROSS_MODAL = ("xmuda", "mm-tta")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(params=MAKE)
def make(request, town):
    return lambda seed=0: MAKE[request.param](town, seed)


def run(adapter, town, seeds, config=CONFIG):
    return [adapter.step(town.frame(seed), config) for seed in seeds]


def test_what_was_handed_in_is_not_touched(make, town):
    given = (town.student, town.head)
    before = [{name: tensor.clone() for name, tensor in module.state_dict().items()} for module in given]
    assert run(make(), town, [0])[0].accepted
    assert all(same(old, module.state_dict()) for old, module in zip(before, given, strict=True))
    assert not town.student.training
    assert all(p.requires_grad and p.grad is None for p in town.student.backbone.parameters())


def test_an_accepted_step_changes_the_weights_and_raises_the_version(make, town):
    adapter = make()
    shipped = adapter.weights()
    report = run(adapter, town, [0])[0]
    assert (report.accepted, report.reason, report.version, report.steps) == (True, "", 1, 1)
    assert report.points > 100
    assert adapter.weights().version == 1
    assert not same(adapter.weights().tensors, shipped.tensors)


def test_published_weights_fit_the_student_and_do_not_change_with_later_steps(make, town):
    adapter = make()
    weights = adapter.weights()
    assert weights.fit(Weights.copied(0, town.student.backbone).tensors)
    copies = {name: tensor.clone() for name, tensor in weights.tensors.items()}
    run(adapter, town, [0])
    assert same(weights.tensors, copies)


def test_going_back_to_the_shipped_weights_repeats_the_same_run(make, town):
    adapter = make()
    shipped, runs = adapter.weights(), []
    for _ in range(2):
        run(adapter, town, range(3))
        runs.append(adapter.weights().tensors)
        adapter.load_weights(shipped)
        assert same(adapter.weights().tensors, shipped.tensors)
        assert adapter.weights().version == 0
    assert same(*runs)


def test_going_on_from_other_weights_keeps_their_version(make, town):
    first, second = make(), make()
    run(first, town, range(2))
    second.load_weights(first.weights())
    assert same(second.weights().tensors, first.weights().tensors)
    assert run(second, town, [5])[0].version == 3


def test_weights_of_another_backbone_are_refused(make, student):
    with pytest.raises(ValueError, match="another backbone"):
        make().load_weights(Weights(0, dict(list(Weights.copied(0, student.backbone).tensors.items())[1:])))


def test_the_truth_is_never_looked_at(make, town):
    told, blind = make(), make()
    for seed in range(3):
        frame = town.frame(seed)
        told.step(frame, CONFIG)
        blind.step(dataclasses.replace(frame, labels=None), CONFIG)
    assert same(told.weights().tensors, blind.weights().tensors)


def few_points(frame):
    return dataclasses.replace(frame, points=frame.points[::50]), CONFIG


def small_cloud(frame):
    return dataclasses.replace(frame, points=frame.points * np.float32(0.02) + np.float32([3, 0, 0])), CONFIG


REFUSED = {
    "few points": (few_points, "points to learn from, expected 32"),
    "small cloud": (small_cloud, "no statistics"),
    "empty cloud": (lambda frame: (dataclasses.replace(frame, points=frame.points[:0]), CONFIG), "0 points"),
}


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_frame_that_says_too_little_leaves_no_trace(make, town, change, reason):
    tried, spared = make(), make()
    for adapter in (tried, spared):
        run(adapter, town, [0])
    report = tried.step(*change(town.frame(1)))
    assert not report.accepted
    assert reason in report.reason
    assert report.version == 1
    for adapter in (tried, spared):
        run(adapter, town, [2])
    assert same(tried.weights().tensors, spared.weights().tensors)


def test_an_update_that_is_not_finite_leaves_no_trace(make, town, monkeypatch):
    tried, spared = make(), make()
    for adapter in (tried, spared):
        run(adapter, town, [0])
    update = type(tried)._update

    def spoil(adapter, state, scene):
        loss = update(adapter, state, scene)
        with torch.no_grad():
            next(state.student.backbone.parameters()).fill_(torch.nan)
        return loss

    monkeypatch.setattr(type(tried), "_update", spoil)
    report = run(tried, town, [1])[0]
    monkeypatch.undo()
    assert report.reason == "the weights are not finite after the step"
    for adapter in (tried, spared):
        assert run(adapter, town, [2])[0].version == 2
    assert same(tried.weights().tensors, spared.weights().tensors)


def test_a_loss_that_is_not_finite_is_told(make, town, monkeypatch):
    adapter = make()
    monkeypatch.setattr(type(adapter), "_update", lambda *_: float("nan"))
    report = run(adapter, town, [0])[0]
    assert (report.accepted, report.reason) == (False, "the loss is not finite")


def test_steps_are_updates_per_frame(make, town):
    once, twice = make(), make()
    frame = town.frame(0)
    for _ in range(2):
        once.step(frame, CONFIG)
    report = twice.step(frame, dataclasses.replace(CONFIG, steps=2))
    assert (report.steps, report.version) == (2, 1)
    assert same(once.weights().tensors, twice.weights().tensors)


def test_points_that_are_not_usable_do_not_disturb_a_step(make, town):
    frame = town.frame(0)
    odd = np.array([[np.nan, 0, 0], [5, 0, np.inf], [1e8, 0, 0]], np.float32)
    mixed = dataclasses.replace(frame, points=np.concatenate([odd, frame.points]), labels=None)
    reports = [make().step(each, CONFIG) for each in (frame, mixed)]
    assert reports[0].points == reports[1].points
    assert reports[1].accepted


@pytest.mark.parametrize("name", [name for name in MAKE if name not in CROSS_MODAL])
def test_without_a_camera_the_methods_of_one_modality_go_on(name, town):
    assert MAKE[name](town).step(dataclasses.replace(town.frame(0), views=()), CONFIG).accepted


@pytest.mark.parametrize("name", CROSS_MODAL)
def test_without_a_camera_the_methods_of_two_modalities_refuse(name, town):
    report = MAKE[name](town).step(dataclasses.replace(town.frame(0), views=()), CONFIG)
    assert (report.accepted, report.points) == (False, 0)


@pytest.mark.parametrize("method", [XMuda, MMTTA])
def test_an_image_head_that_does_not_fit_is_refused(method, town):
    with pytest.raises(ValueError, match="5 features.*6 features"):
        method(town.student, town.teacher, ImageHead("outdoor10", 5))
