import numpy as np
import pytest

from tttkd_ros.evaluation.result import Result, Timing, joined, title

RIGHT, WRONG = np.array([[[0, 0, 0]] * 2, [[1, 0, 0], [0, 1, 0]]]), np.array([[[0, 0, 0]] * 2, [[0, 1, 0], [1, 0, 0]]])


def result(*right, name="tent", **more):
    """One sweep for each argument, labelled right or wrong; classes a and b."""
    size = len(right)
    return Result(
        name, ("a", "b"), np.arange(size), np.stack([RIGHT if each else WRONG for each in right]), {"stride": 5},
        **({"predicted": np.ones((size, 3), int), "agreement": np.tile([3, 4], (size, 1)),
            "timing": Timing(np.full(size, 0.1), np.full(1, 0.3))} | more),
    )  # fmt: skip


def test_a_title_has_the_settings_that_distinguish_runs():
    settings = {"seed": 0, "stride": 5, "learning_rate": 0.1, "steps": 1, "control": None, "shift_z": 1.5}
    assert title("ttt-kd-o", settings) == "ttt-kd-o, stride 5, lr 0.1, steps 1, z shift 1.5"
    assert title("ttt-kd-o", settings | {"steps": 4, "train_rotations": 2}) == (
        "ttt-kd-o, stride 5, lr 0.1, rotations 2, z shift 1.5"
    )
    assert title("tent", settings) == "tent, stride 5, lr 0.1, z shift 1.5"


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [("ttt-kd-o", {"steps": 4, "train_rotations": 4, "bn_momentum": 0.005, "crop": 6.4, "rotations": 3}, "ttt-kd-o"),
     ("ttt-kd-o", {"steps": 2, "train_rotations": 1, "bn_momentum": 0.0}, "ttt-kd-o, bn 0.0, steps 2, rotations 1"),
     ("ttt-kd", {"steps": 1}, "ttt-kd, steps 1"), ("ttt-kd", {"steps": 25}, "ttt-kd, steps 25"),
     ("tent", {"steps": 1}, "tent"), ("tent", {"steps": 4}, "tent, steps 4")],
)
def test_a_setting_at_the_method_s_default_is_not_in_its_title(name, settings, expected):
    assert title(name, settings) == expected


def test_second_halves_are_per_drive():
    together = joined([result(0, 1, 1, 1), result(0, 0, 0, 1)])
    assert together.second_half.tolist() == [False, False, True, True] * 2
    assert together.miou(together.second_half) == pytest.approx(100 * 3 / 5)


def test_windows_do_not_span_drives():
    together = joined([result(1, 1, 1), result(0, 0, 1)])
    assert together.curve(3).tolist() == pytest.approx([100, 100, 100, 0, 0, 20])


def test_miou_over_time_has_a_value_per_whole_window_or_short_drive(monkeypatch):
    monkeypatch.setattr("tttkd_ros.evaluation.result.WINDOW", 2)
    assert result(1, 1, 0, 0, 1).summary()["miou_over_time"] == {"window": 2, "miou": [100, 0]}
    assert joined([result(0), result(1, 1, 0)]).summary()["miou_over_time"]["miou"] == [0, 100]


def test_counts_of_drives_add_up():
    parts = [result(1, 0, rejections={"dark": 1, "blind": 1}, steps_tried=3, losses=((0, 2.0),)),
             result(1, rejections={"dark": 2}, steps_tried=4, losses=((0, 5.0),))]  # fmt: skip
    summary = joined(parts).summary()
    assert (summary["rejections"], summary["steps_tried"]) == ({"dark": 3, "blind": 1}, 7)
    assert (summary["sweeps"], summary["loss"], summary["agreement"]) == (3, 3.5, 75.0)
    assert len(joined(parts).timing.predictions) == 3 and len(joined(parts).timing.steps) == 2


def test_what_was_not_measured_is_none():
    bare = Result("live", ("a", "b"), np.arange(2), np.zeros((2, 2, 2, 3), int)).summary()
    assert {bare[key] for key in ("miou", "agreement", "calibration_error", "predicted", "loss")} == {None}
    assert bare["sweeps_with_truth"] == 0


def test_a_summary_holds_no_times():
    slow = result(1, timing=Timing(np.full(1, 9.0), np.empty(0)))
    assert slow.summary() == result(1).summary()


def test_predictions_per_second_include_the_steps():
    timing = result(1, 1).timing.summary()
    assert timing["predictions_per_second"] == pytest.approx(2 / (0.2 + 0.3))
    assert timing["latency_ms"] == {"p50": 100.0, "p95": 100.0, "p99": 100.0} and timing["seconds_per_step"] == 0.3
