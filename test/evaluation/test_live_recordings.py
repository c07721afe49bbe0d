"""Recordings of what the node answered, written by hand."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.evaluation.live_recordings import live_names, read_steps, score_recording
from tttkd_ros.frame import Frame

REPORT = {"accepted": "true", "reason": "", "loss": "0.5", "seconds": "0.25", "stride": "5", "learning_rate": "0.1"}


def sweeps(number):
    generator = np.random.default_rng(0)
    return [
        Frame(1000 + i, generator.normal(size=(50, 3)).astype(np.float32),
              labels=generator.integers(0, 10, 50).astype(np.uint8))
        for i in range(number)
    ]


def scored(drive, recording, reference=None):
    return score_recording("live", drive, recording, OUTDOOR, "lidar", reference)


def test_predictions_are_scored_by_stamp(tmp_path, record_answers):
    drive = sweeps(4)
    result = scored(drive, record_answers(tmp_path / "bag", drive))
    assert result.miou() == 100
    assert result.delivery.complete


def test_a_sweep_without_a_prediction_counts_as_unlabelled(tmp_path, record_answers):
    drive = sweeps(4)
    result = scored(drive, record_answers(tmp_path / "bag", drive[:1] + drive[2:]))
    assert [matrix[..., -1].sum() for matrix in result.matrices] == [0, 50, 0, 0]
    assert result.summary()["sweeps_received"] == 3
    assert not result.delivery.complete


def test_a_recording_of_other_classes_is_refused(tmp_path, record_answers):
    drive, other = sweeps(2), ClassSet("indoor", ("floor",), ((0, 0, 0),))
    same = record_answers(tmp_path / "same", drive, class_set=replace(OUTDOOR, name="copy"))
    assert scored(drive, same).miou() == 100
    with pytest.raises(ValueError, match="labels of class set 'indoor' .floor., but the student has .*outdoor10"):
        scored(drive, record_answers(tmp_path / "other", drive, class_set=other))


def test_predictions_out_of_order_are_scored_and_reported(tmp_path, record_answers):
    drive, order = sweeps(3), count(10**9)
    answered = [drive[1], drive[0], drive[2]]
    result = scored(drive, record_answers(tmp_path / "bag", answered, arrived=lambda _: next(order)))
    assert result.miou() == 100
    assert not result.delivery.in_order


@pytest.mark.parametrize("change", ["frame", "points"])
def test_predictions_for_another_frame_or_points_count_as_unlabelled(tmp_path, record_answers, change):
    drive = sweeps(2)
    answered = drive if change == "frame" else [Frame(f.stamp, f.points + 1, labels=f.labels) for f in drive]
    result = scored(drive, record_answers(tmp_path / "bag", answered, frame_id="map" if change == "frame" else "lidar"))
    assert result.matrices[..., -1].sum() == 100
    assert not result.delivery.points_and_frames_intact


def test_recorded_labels_are_compared_with_the_frozen_student_s(tmp_path, record_answers):
    drive = sweeps(2)
    recording = record_answers(tmp_path / "bag", drive)
    result = scored(drive, recording, lambda frame: np.where(frame.points[:, 0] > 0, 0, 255))
    assert result.agreement.sum(0).tolist() == [
        sum(int(((f.points[:, 0] > 0) & (f.labels == 0)).sum()) for f in drive), 100
    ]


def test_a_recording_of_another_bag_is_refused(tmp_path, record_answers):
    other = [Frame(f.stamp + 10**6, f.points, labels=f.labels) for f in sweeps(2)]
    with pytest.raises(ValueError, match="holds 2 predictions, but none for a sweep of the drive"):
        scored(sweeps(2), record_answers(tmp_path / "bag", other))


def test_steps_are_counted_and_appear_in_the_title(tmp_path, record_answers):
    rejected = REPORT | {"accepted": "false", "loss": "nan", "stride": "10"}
    few = [(1001 + number, rejected | {"reason": f"{number} points in view"}) for number in range(2)]
    drive = sweeps(3)
    result = scored(drive, record_answers(tmp_path / "bag", drive, reports=[(1000, REPORT), *few]))
    assert (result.steps_accepted, result.steps_tried, result.rejections) == (1, 3, {"# points in view": 2})
    assert result.losses == ((1000, 0.5),)
    assert result.title == "live, stride 5, lr 0.1"


def test_steps_for_sweeps_beyond_the_limit_do_not_count(tmp_path, record_answers):
    drive = sweeps(4)
    later = REPORT | {"loss": "9.0", "seconds": "9.0", "stride": "1"}
    recording = record_answers(tmp_path / "bag", drive, reports=[(1000, REPORT), (1002, later)])
    result = scored(drive[:2], recording)
    assert (result.steps_tried, result.losses, result.settings["stride"]) == (1, ((1000, 0.5),), 5)
    assert result.timing.steps.tolist() == [0.25]


@pytest.mark.parametrize(
    ("report", "message"),
    [({"accepted": "true"}, "lacks reason, loss, seconds, stride, learning_rate; it has accepted"),
     (REPORT | {"loss": "little"}, "could not convert string to float: 'little'"),
     (REPORT | {"learning_rate": "nan"}, "learning_rate is nan")],
)
def test_an_incomplete_report_is_refused(tmp_path, record_answers, report, message):
    with pytest.raises(ValueError, match=message):
        read_steps(record_answers(tmp_path / "bag", sweeps(1), reports=[(1000, report)]))


def test_a_recording_without_reports_has_no_steps(tmp_path, record_answers):
    assert read_steps(record_answers(tmp_path / "bag", sweeps(1))) == []


def test_recordings_have_different_names_and_other_bags_are_refused(tmp_path, record_answers):
    one, two = (record_answers(tmp_path / name / "recording", sweeps(1)) for name in ("a", "b"))
    assert live_names((one,)) == {"live": one}
    assert live_names((one, two)) == {"live a_recording": one, "live b_recording": two}
    with BagWriter(tmp_path / "drive") as bag:
        bag.write_frame(sweeps(1)[0])
    with pytest.raises(ValueError, match="no topic could be the predictions"):
        live_names((tmp_path / "drive",))
