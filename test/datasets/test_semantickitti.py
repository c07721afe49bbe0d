
import cv2
import numpy as np
import pytest
import torch

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.datasets.class_maps import SEMANTIC_KITTI_IDS, ClassMap
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.semantickitti import open_recording as open_semantickitti
from tttkd_ros.datasets.semantickitti import read_classes

# Points of each class in frame 00/000000, counted when the shared data were recorded.
COUNTS = {"car": 4234, "bike": 88, "road": 34228 + 1053, "parking": 3268, "sidewalk": 26360, "building": 18268,
          "nature": 27123 + 1192 + 2964, "other-objects": 370 + 532 + 102 + 1227}
UNLABELLED_COUNT = 2184 + 4 + 1471
VISIBLE_COUNTS = {"car": 1483, "bike": 88, "road": 5798, "parking": 1743, "sidewalk": 1273, "building": 3618,
        "nature": 3676 + 776, "other-objects": 243 + 220 + 6}


@pytest.fixture
def frame_zero(shared_data, tmp_path):
    """The recorded frame in the layout of its data set."""
    source, sequence = shared_data("semantickitti_00_000000"), tmp_path / "recorded" / "sequences" / "00"
    links = {"velodyne/000000.bin": "000000.bin", "labels/000000.label": "000000.label",
             "image_2/000000.png": "image_2_000000.png", "calib.txt": "calib.txt"}
    for name, file in links.items():
        (sequence / name).parent.mkdir(parents=True, exist_ok=True)
        (sequence / name).symlink_to(source / file)
    (sequence / "times.txt").write_text("0.000000e+00\n")
    return tmp_path / "recorded"


def test_a_sequence_becomes_frames_with_truth(semantickitti):
    recording = open_semantickitti(semantickitti(3))
    assert len(recording) == 3
    frames = [recording[index].frame for index in range(3)]
    assert np.diff([frame.stamp for frame in frames]).tolist() == [10**8, 10**8]
    car, road = OUTDOOR.names.index("car"), OUTDOOR.names.index("road")
    for frame in frames:
        assert frame.labels.dtype == np.uint8
        assert frame.labels.tolist() == [car, car, road, UNLABELLED, UNLABELLED]
        assert frame.points.shape == (5, 3) and frame.intensity.shape == (5,) and len(frame.views) == 1


def test_poses_of_the_camera_become_the_lidar_s(semantickitti):
    recording = open_semantickitti(semantickitti(3))
    (stamp, first), (_, last) = recording[0].poses[0], recording[2].poses[0]
    assert stamp == recording[0].frame.stamp
    np.testing.assert_allclose(first, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(last[:3, 3], [2, 0, 0], atol=0.05)  # the camera's z axis is the LiDAR's x, nearly


def test_the_motion_reaches_the_views(semantickitti, tmp_path):
    write_bag(open_semantickitti(semantickitti(3)), tmp_path / "bag", {})
    with_motion = [frame.views[0].camera_from_lidar for frame in BagReader(tmp_path / "bag").frames()]
    np.testing.assert_allclose(with_motion[0], with_motion[2], atol=1e-9)  # image and sweep have one stamp


def test_a_folder_of_several_sequences_needs_a_scene(semantickitti):
    folder = semantickitti(1)
    (folder / "sequences" / "04").symlink_to(folder / "sequences" / "03")
    with pytest.raises(ValueError, match=r"has 2 sequences: name one with --scene \(03, 04\)"):
        open_semantickitti(folder)
    assert len(open_semantickitti(folder, "03")) == len(open_semantickitti(folder / "sequences" / "03")) == 1
    with pytest.raises(ValueError, match="no sequence '11', only 03, 04"):
        open_semantickitti(folder, "11")


def test_another_folder_is_refused_with_the_expected_layout(tmp_path):
    with pytest.raises(ValueError, match="has no sequence in it: expected folders with velodyne/000000.bin"):
        open_semantickitti(tmp_path)


@pytest.mark.parametrize(("missing", "words"), [("labels", "no truth"), ("image_2", "no camera")])
def test_without_labels_or_images_the_rest_is_read_and_a_warning_says_so(semantickitti, caplog, missing, words):
    folder = semantickitti(1)
    (folder / "sequences" / "03" / missing).rename(folder / "away")
    frame = open_semantickitti(folder)[0].frame
    assert words in caplog.text
    assert (frame.labels is None, len(frame.views)) == ((True, 1) if missing == "labels" else (False, 0))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("calib.txt", "calib.txt is missing: .*data_odometry_calib.zip"),
        ("times.txt", "times.txt is missing: .*data_odometry_calib.zip"),
        ("labels/000000.label", "no labels at .*000000.label"),
        ("image_2/000000.png", "no image at .*000000.png"),
    ],
)
def test_a_missing_file_is_named_with_the_remedy(semantickitti, name, words):
    folder = semantickitti(1)
    (folder / "sequences" / "03" / name).unlink()
    with pytest.raises(ValueError, match=words):
        open_semantickitti(folder)[0]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("times.txt", "0.0\n", "times.txt has 1 lines, but there is a sweep 1"),
        ("times.txt", "0.0\nnoon\n", "times.txt is not 1 number to a line"),
        ("times.txt", "0.0\n1e300\n", r"times.txt is not 1 number to a line \(one is too large, or not a number\)"),
        ("poses.txt", "1 0 0 nan " * 3 + "\n", "poses.txt is not 12 numbers to a line .one is too large"),
        ("poses.txt", "1 0 0\n0 1 0\n", "poses.txt is not 12 numbers to a line"),
        ("calib.txt", "P2: 1 2 3\n", "calib.txt has no P2 of 3x4 numbers"),
    ],
)
def test_an_incomplete_table_is_refused(semantickitti, name, text, words):
    folder = semantickitti(2)
    (folder / "sequences" / "03" / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        open_semantickitti(folder)


def test_labels_of_another_data_set_are_refused(tmp_path):
    np.array([10, 5], "<u4").tofile(tmp_path / "000000.label")
    with pytest.raises(ValueError, match="000000.label: label 5 is not one of .*is it SemanticKITTI's"):
        read_classes(tmp_path / "000000.label", 2, ClassMap(SEMANTIC_KITTI_IDS, "semantickitti", OUTDOOR))


def class_counts(labels):
    return {name: count for index, name in enumerate(OUTDOOR.names) if (count := int((labels == index).sum()))}


def test_the_recorded_frame_has_the_counted_points_of_each_class_and_in_the_image(frame_zero, tmp_path):
    write_bag(open_semantickitti(frame_zero), tmp_path / "bag", {})
    (frame,) = BagReader(tmp_path / "bag").frames()
    assert len(frame.points) == 124668
    assert class_counts(frame.labels) == COUNTS
    assert int((frame.labels == UNLABELLED).sum()) == UNLABELLED_COUNT
    (view,) = frame.views
    homogeneous = np.column_stack([frame.points.astype(np.float64), np.ones(len(frame.points))])
    _, visible = view.camera.project(torch.from_numpy((homogeneous @ view.camera_from_lidar.T)[:, :3].copy()))
    assert class_counts(frame.labels[visible.numpy()]) == VISIBLE_COUNTS


@pytest.mark.parametrize("size", [(12, 16), (6, 12), (4, 8)])
def test_images_that_are_not_those_of_the_calibration_are_refused(semantickitti, size):
    folder = semantickitti(1)
    path = folder / "sequences" / "03" / "image_2" / "000000.png"
    cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    with pytest.raises(ValueError, match=f"000000.png is {size[1]}x{size[0]}, .*far from the middle: use the"):
        open_semantickitti(folder)
