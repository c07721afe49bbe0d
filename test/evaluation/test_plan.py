from typing import get_args

import pytest

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.cli.evaluate import ControlName, MethodName
from tttkd_ros.evaluation.replay import CONTROLS, RunConfig
from tttkd_ros.evaluation.runs import ALL, plan
from tttkd_ros.methods import METHODS, OWN_STUDENT

LISTS = {
    "strides": (1, 5), "learning_rates": (0.1, 1.0), "bn_momenta": (TTTConfig.bn_momentum,),
    "steps": (TTTConfig.steps,), "rotations": (TTTConfig.rotations,), "offline_steps": (2, 25),
}  # fmt: skip


def planned(*names, common=None, **lists):
    return plan(names, common or RunConfig(config=TTTConfig(kd_points=50), seed=3, rotations=4), **(LISTS | lists))


def titles(*names, **lists):
    return [run.title for run in planned(*names, **lists)]


def test_the_command_offers_every_method_there_is():
    assert {*get_args(MethodName)} == {*METHODS, ALL} - {*OWN_STUDENT}


def test_the_command_offers_every_control_there_is():
    assert get_args(ControlName) == CONTROLS


def test_strides_apply_to_online_methods_and_learning_rates_to_ttt_kd():
    assert titles("tent", "ttt-kd-o") == [
        "frozen", "tent, stride 1", "tent, stride 5", "ttt-kd-o, stride 1, lr 0.1", "ttt-kd-o, stride 1, lr 1.0",
        "ttt-kd-o, stride 5, lr 0.1", "ttt-kd-o, stride 5, lr 1.0",
    ]  # fmt: skip


def test_steps_and_rotations_apply_to_ttt_kd():
    assert titles("dua", "ttt-kd-o", strides=(5,), learning_rates=(1.0,), steps=(1, 4), rotations=(2,)) == [
        "frozen", "dua, stride 5", "ttt-kd-o, stride 5, lr 1.0, steps 1, rotations 2",
        "ttt-kd-o, stride 5, lr 1.0, rotations 2",
    ]  # fmt: skip


def test_the_offline_method_has_steps_of_its_own():
    assert titles("ttt-kd", learning_rates=(1.0,)) == ["frozen", "ttt-kd, lr 1.0, steps 2", "ttt-kd, lr 1.0, steps 25"]


def test_momenta_apply_to_ttt_kd():
    assert titles("dua", "ttt-kd-o", strides=(5,), learning_rates=(1.0,), bn_momenta=(0.0, 0.005)) == [
        "frozen", "dua, stride 5", "ttt-kd-o, stride 5, lr 1.0, bn 0.0", "ttt-kd-o, stride 5, lr 1.0",
    ]  # fmt: skip


def test_shared_settings_are_in_every_run():
    runs = planned("all")
    assert {(run.config.kd_points, run.seed, run.rotations) for run in runs} == {(50, 3, 4)}
    assert {run.method for run in runs} == {*METHODS} - {*OWN_STUDENT}


def test_methods_with_a_student_of_their_own_run_if_it_is_given():
    assert titles("all", own_students=["oracle", "source-only"])[:3] == ["frozen", "source-only", "oracle"]


ONE = {"strides": (5,), "learning_rates": (1.0,)}


def test_numbers_of_images_apply_to_methods_that_use_images():
    assert titles("tent", "ttt-kd-o", images=(1, 2), **ONE) == [
        "frozen", "tent, stride 5", "ttt-kd-o, stride 5, lr 1.0, images 1", "ttt-kd-o, stride 5, lr 1.0, images 2",
    ]  # fmt: skip


def test_learning_rates_of_baselines_apply_to_those_that_have_one():
    assert titles("dua", "tent", "xmuda", "ttt-kd-o", baseline_learning_rates=(1e-3, 3e-3), **ONE) == [
        "frozen", "tent, stride 5, lr 0.001", "tent, stride 5, lr 0.003", "dua, stride 5",
        "xmuda, stride 5, lr 0.001", "xmuda, stride 5, lr 0.003", "ttt-kd-o, stride 5, lr 1.0",
    ]  # fmt: skip


def test_ttt_kd_runs_with_each_control_as_well():
    assert titles("tent", "xmuda", "ttt-kd-o", controls=("other-image", "no-image"), **ONE) == [
        "frozen", "tent, stride 5", "xmuda, stride 5", "ttt-kd-o, stride 5, lr 1.0",
        "ttt-kd-o, stride 5, lr 1.0, other-image", "ttt-kd-o, stride 5, lr 1.0, no-image",
    ]  # fmt: skip


def test_frozen_has_the_controls_and_numbers_of_images_of_a_student_with_injection_after_the_baseline():
    common = RunConfig(injects=True)
    runs = planned("frozen", common=common, images=(1,), controls=("no-image",))
    assert [run.title for run in runs] == [
        "frozen", "frozen, images 1", "frozen, no-image", "frozen, images 1, no-image",
    ]  # fmt: skip
    assert [run.is_baseline for run in runs] == [True, False, False, False]


def test_images_and_statistics_can_be_separated_at_each_stride():
    options = {"controls": ("no-image",), "bn_momenta": (0.0, 0.005), "learning_rates": (1.0,)}
    assert titles("ttt-kd-o", **options) == [
        "frozen", *(f"ttt-kd-o, stride {stride}, lr 1.0{statistics}" for stride in (1, 5)
                    for statistics in (", bn 0.0", "")),
        *(f"ttt-kd-o, stride {stride}, lr 1.0, no-image" for stride in (1, 5)),
    ]  # fmt: skip


def test_no_run_is_made_twice():
    assert titles("tent", "tent", strides=(5, 5)) == ["frozen", "tent, stride 5"]


def test_no_method_is_refused():
    with pytest.raises(ValueError, match="no method given"):
        planned()


def test_values_out_of_range_are_refused():
    with pytest.raises(ValueError, match="stride is 0"):
        planned("tent", strides=(0,))
