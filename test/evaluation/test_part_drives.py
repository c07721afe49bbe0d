"""`tttkd evaluate` on sources that are no bags."""

import json

import cv2
import numpy as np
import pytest
from tiny_models import FORWARD

from tttkd_ros.classes import OUTDOOR
from tttkd_ros.cli.convert import convert
from tttkd_ros.evaluation.part_drives import PartDrive, open_parts


@pytest.fixture
def kitti(tiny, tmp_path):
    """A folder in SemanticKITTI's layout with the tiny frames, as sequences 03 and 04."""
    for number, sequence in enumerate(("03", "04")):
        folder = tmp_path / "kitti" / "sequences" / sequence
        for name in ("velodyne", "labels", "image_2"):
            (folder / name).mkdir(parents=True)
        for index, frame in enumerate(tiny.frames(number)):
            points = np.column_stack([frame.points, np.ones(len(frame.points), np.float32)])
            points.astype("<f4").tofile(folder / "velodyne" / f"{index:06}.bin")
            np.where(frame.labels, 18, 10).astype("<u4").tofile(folder / "labels" / f"{index:06}.label")
            cv2.imwrite(str(folder / "image_2" / f"{index:06}.png"), frame.views[0].image[:, :, ::-1])
        numbers = " ".join(str(value) for value in FORWARD[:3].ravel())
        (folder / "calib.txt").write_text(f"P2: 16 0 16 0 0 16 8 0 0 0 1 0\nTr: {numbers}\n")
        (folder / "times.txt").write_text("".join(f"{0.1 * index}\n" for index in range(6)))
        (folder / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {index / 10}\n" for index in range(6)))
    return tmp_path / "kitti"


def results(run, tmp_path, *sources, **options):
    run(*sources, json_file=tmp_path / "out.json", stride=(2,), steps=(1,), **options)
    return json.loads((tmp_path / "out.json").read_text())


def test_a_folder_gives_the_same_results_as_the_bag_that_it_converts_to(run, kitti, tmp_path):
    convert("semantickitti", kitti, tmp_path / "bag", scene="04")
    direct = results(run, tmp_path, f"semantickitti:{kitti}:04", method=("ttt-kd-o",))
    replayed = results(run, tmp_path, str(tmp_path / "bag"), method=("ttt-kd-o",))
    assert direct["results"] == replayed["results"]
    frozen, adapted = direct["results"]
    assert frozen["sweeps_with_truth"] == 6 and adapted["steps_accepted"] == 3


def test_every_scene_is_a_drive_and_other_files_are_not_taken_for_those_of_finished_runs(run, kitti, tmp_path):
    source = f"semantickitti:{kitti}"
    first = results(run, tmp_path, source, method=("frozen",), out=tmp_path / "results", limit=2)
    assert [bag["bag"] for bag in first["bags"]] == ["semantickitti-03", "semantickitti-04"]
    assert [bag["sweeps"] for bag in first["bags"]] == [2, 2]
    page = (tmp_path / "results" / "report.html").read_text()
    assert "truth from labels of semantickitti" in page and "cameras: camera_front" in page
    calibration = kitti / "sequences" / "04" / "calib.txt"
    calibration.write_text(calibration.read_text() + "\n")
    with pytest.raises(ValueError, match="holds runs on other inputs .files.semantickitti-04"):
        results(run, tmp_path, source, method=("frozen",), out=tmp_path / "results", limit=2)


def test_a_simulated_drive_and_a_bag_are_evaluated_side_by_side(run, tiny, tmp_path):
    found = results(run, tmp_path, str(tiny.bag(tmp_path / "bag")), "sim:kitti:1x2", method=("frozen",), limit=2)
    assert [bag["bag"] for bag in found["bags"]] == ["bag", "kitti-0"]
    assert [bag["truth"] for bag in found["bags"]] == ["/truth/points_labeled", "the simulator"]


def test_of_several_sources_one_that_cannot_be_opened_is_left_out(run, tiny, tmp_path, capsys):
    results(run, tmp_path, str(tiny.bag(tmp_path / "bag")), "kitti:/nowhere", method=("frozen",))
    errors = " ".join(capsys.readouterr().err.split())
    assert "nowhere cannot be evaluated: source 'kitti:/nowhere': no folder" in errors
    with pytest.raises(ValueError, match="no folder at /nowhere"):
        run("kitti:/nowhere", method=("frozen",))


def test_options_choose_sweeps_labels_and_cameras(kitti):
    parts, failed = open_parts([f"semantickitti:{kitti}:03"], OUTDOOR)
    (part,) = parts.values()
    assert not failed
    drive = PartDrive(part, limit=2, truth=False, cameras=())
    frames = list(drive)
    assert len(drive) == len(frames) == 2 and drive.truth is None and drive.cameras == ()
    assert all(frame.labels is None and frame.views == () for frame in frames)
    for options, message in (({"limit": 0}, "limit is 0"), ({"tolerance": -1}, "tolerance is -1"),
                             ({"cameras": ("rear",)}, "has no camera 'rear', only camera_front")):
        with pytest.raises(ValueError, match=message):
            PartDrive(part, **options)


def test_an_option_for_bags_is_refused_for_a_data_set(run, kitti):
    with pytest.raises(ValueError, match="--points-topic is for bags, and semantickitti-03 is none: leave it out"):
        run(f"semantickitti:{kitti}:03", method=("frozen",), points_topic="/lidar")


def test_one_drive_twice_is_refused(run, kitti):
    with pytest.raises(ValueError, match="two drives are called kitti_semantickitti-03: give each once"):
        run(f"semantickitti:{kitti}:03", f"semantickitti:{kitti}:03")
