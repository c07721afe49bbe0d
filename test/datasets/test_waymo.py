import shutil

import numpy as np
import pytest
import torch
from waymo_segment import LIDAR_PLACE, SEGMENT, WAYMO_START

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR, UNLABELLED, load_class_set
from tttkd_ros.datasets import waymo as reader
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.frames import recorded_frames

AHEAD = 50 - LIDAR_PLACE[0]  # metres from the LiDAR of the first frame to the wall


def test_points_of_every_beam_and_moment_lie_on_the_wall_with_the_vehicles_axes_and_the_lidars_origin(waymo):
    recording = reader.open_recording(waymo())
    assert len(recording) == 3
    for index in range(3):
        frame = recording[index].frame
        assert frame.points.dtype == np.float32 and frame.points.shape == (8, 3)
        np.testing.assert_allclose(frame.points[:, 0], AHEAD - index, atol=1e-4)
        # Rows come from the top one on; the left half of the image is on the left.
        np.testing.assert_array_equal(np.sign(frame.points[:, 1]), [1, -1] * 4)
        assert frame.points[0, 2] > 0 and frame.points[-1, 2] < -10
        np.testing.assert_allclose(frame.intensity, np.repeat(np.arange(4) * 0.25, 2))
        assert frame.stamp == (WAYMO_START + 100_000 * index + 50_000) * 1000


def test_labels_follow_the_class_set_and_a_frame_without_labels_has_none(waymo):
    folder = waymo()
    recording = reader.open_recording(folder)
    names = [None if label == UNLABELLED else OUTDOOR.names[label] for label in recording[0].frame.labels]
    assert names == ["car", "road", "building", None, "sidewalk", "person", "nature", "truck"]
    assert recording[2].frame.labels is None
    own = reader.open_recording(folder, None, load_class_set("waymo22"))
    assert own.class_set.names[own[0].frame.labels[0]] == "Car"


def test_views_know_lens_place_and_motion(waymo):
    recording = reader.open_recording(waymo())
    assert recording.cameras == ("camera_front", "camera_front_left")
    frame = list(recorded_frames(recording))[1]
    front, left = frame.views
    assert front.camera.distortion[0] == 0.05
    assert abs(int(front.image.mean()) - 200) < 3 and abs(int(left.image.mean()) - 100) < 3
    assert front.stamp - frame.stamp == 20_000_000
    # A point 10 m ahead of the camera as it is 20 ms later.
    ahead = np.array([1.5 - LIDAR_PLACE[0] + 10 + 0.2, 0.1 - LIDAR_PLACE[1], 2.0 - LIDAR_PLACE[2], 1])
    np.testing.assert_allclose(front.camera_from_lidar @ ahead, [0, 0, 10, 1], atol=1e-6)
    pixels, inside = front.camera.project(torch.tensor([[0.0, 0.0, 10.0]]))
    assert inside.all() and pixels[0].tolist() == [4.0, 3.0]


def test_a_segment_is_the_same_as_its_bag(waymo, tmp_path):
    recording = reader.open_recording(waymo())
    write_bag(recording, tmp_path / "bag", {})
    for direct, replayed in zip(recorded_frames(recording), BagReader(tmp_path / "bag").frames(), strict=True):
        assert direct.stamp == replayed.stamp
        np.testing.assert_array_equal(direct.points, replayed.points)
        np.testing.assert_array_equal(direct.labels, replayed.labels)
        for ours, theirs in zip(direct.views, sorted(replayed.views, key=lambda view: view.name), strict=True):
            assert (ours.name, ours.stamp, ours.camera) == (theirs.name, theirs.stamp, theirs.camera)
            np.testing.assert_array_equal(ours.image, theirs.image)
            np.testing.assert_allclose(ours.camera_from_lidar, theirs.camera_from_lidar, atol=1e-6)


def test_rows_are_read_in_any_order(waymo):
    recording = reader.open_recording(waymo(5))
    backwards = [recording[index].frame.points for index in reversed(range(5))][::-1]
    for index in range(5):
        np.testing.assert_array_equal(recording[index].frame.points, backwards[index])


def test_without_images_and_labels_there_is_neither(waymo):
    folder = waymo()
    for component in ("camera_image", "lidar_segmentation"):
        shutil.rmtree(folder / component)
    recording = reader.open_recording(folder)
    assert recording.cameras == () and recording.class_set is None
    assert recording[0].frame.labels is None and recording[0].frame.views == ()


@pytest.mark.parametrize("component", ["lidar_pose", "vehicle_pose", "lidar_calibration", "camera_calibration"])
def test_a_component_that_is_missing_is_named(waymo, component):
    folder = waymo()
    shutil.rmtree(folder / component)
    with pytest.raises(ValueError, match=f"{component}/{SEGMENT}.parquet is missing"):
        reader.open_recording(folder)


def test_a_file_that_is_something_else_or_cut_short_is_named(waymo):
    folder = waymo()
    path = folder / "lidar_pose" / f"{SEGMENT}.parquet"
    content = path.read_bytes()
    for damaged in (b"PAR1", content[:-9], (folder / "vehicle_pose" / path.name).read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="lidar_pose.* is no parquet file of Waymo's LiDARPoseComponent"):
            reader.open_recording(folder)


def test_a_folder_without_segments_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match=r"has no segment in it: expected lidar/<segment>.parquet"):
        reader.open_recording(tmp_path)
