import cv2
import numpy as np
import pytest
import torch

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.kitti import open_recording as open_kitti
from tttkd_ros.geometry.rig import load_rig

CALIBRATION = """\
P2: 700 0 4 70 0 700 3 0 0 0 1 0
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0.5 0 0 -1 -0.1 1 0 0 -0.3
"""


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "sequence"
    folder.mkdir()
    (folder / "calib.txt").write_text(CALIBRATION)
    for index in range(3):
        points = np.full((5, 4), index, "<f4")
        points[:, 3] = 0.25
        points.tofile(folder / f"{index:010}.bin")
        cv2.imwrite(str(folder / f"{index:010}.png"), np.full((6, 8, 3), (index, 0, 200), np.uint8))  # blue, green, red
    return folder


def frames_of(folder):
    recording = open_kitti(folder)
    return [recording[index].frame for index in range(len(recording))]


def test_a_folder_becomes_frames_at_ten_hertz(sequence):
    frames = frames_of(sequence)
    assert np.diff([frame.stamp for frame in frames]).tolist() == [10**8, 10**8]
    for index, frame in enumerate(frames):
        assert frame.points.dtype == np.float32 and (frame.points == index).all() and frame.points.shape == (5, 3)
        assert (frame.intensity == 0.25).all() and frame.labels is None
        (view,) = frame.views
        assert view.stamp == frame.stamp and tuple(view.image[0, 0]) == (200, 0, index)
        assert (view.camera.width, view.camera.height) == (8, 6)


def test_the_offset_of_the_colour_camera_is_part_of_the_extrinsics(sequence):
    (view,) = open_kitti(sequence)[0].frame.views
    np.testing.assert_array_equal(view.camera.matrix, [[700, 0, 4], [0, 700, 3], [0, 0, 1]])
    np.testing.assert_allclose(view.camera_from_lidar[:3, 3], [0.5 + 70 / 700, -0.1, -0.3])


def test_a_sweep_without_an_image_has_no_view(sequence):
    (sequence / "0000000001.png").unlink()
    assert [len(frame.views) for frame in frames_of(sequence)] == [1, 0, 1]


def test_a_folder_without_sweeps_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no sweeps"):
        open_kitti(tmp_path)


def test_a_sweep_cut_short_is_refused(sequence):
    path = sequence / "0000000000.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="77 bytes, expected a multiple of 16"):
        frames_of(sequence)


def test_a_damaged_image_is_refused(sequence):
    (sequence / "0000000000.png").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="0000000000.png cannot be decoded"):
        frames_of(sequence)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("P2", "P7", "no P2 of 3x4 numbers"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1", "no R0_rect of 3x3 numbers"),
        ("0.5", "half", "no Tr_velo_to_cam of 3x4 numbers"),
        ("0.5", "1e999", "no Tr_velo_to_cam of 3x4 numbers: not all are finite"),
        ("P2: 700", "P2: 0", "no projection of a pinhole camera"),
    ],
)
def test_an_invalid_calibration_is_refused(sequence, old, new, words):
    (sequence / "calib.txt").write_text(CALIBRATION.replace(old, new))
    with pytest.raises(ValueError, match=words):
        frames_of(sequence)


def test_a_missing_calibration_is_refused(sequence):
    (sequence / "calib.txt").unlink()
    with pytest.raises(ValueError, match="calib.txt is missing: expected the lines P2, R0_rect"):
        frames_of(sequence)


def test_a_converted_sequence_projects_as_kitti_says(shared_data, tmp_path):
    folder = shared_data("kitti_raw_2011_09_26_seq")
    write_bag(open_kitti(folder), tmp_path / "bag", {})
    rows = dict(line.split(":") for line in (folder / "calib.txt").read_text().splitlines())
    calibration = {name: np.array(text.split(), np.float64) for name, text in rows.items()}
    rectify, velo = np.eye(4), np.eye(4)
    rectify[:3, :3] = calibration["R0_rect"].reshape(3, 3)
    velo[:3] = calibration["Tr_velo_to_cam"].reshape(3, 4)
    lidar_to_image = calibration["P2"].reshape(3, 4) @ rectify @ velo

    frames = list(BagReader(tmp_path / "bag").frames())
    assert len(frames) == 12
    for frame, source in zip(frames, frames_of(folder), strict=True):
        np.testing.assert_array_equal(frame.points, source.points)
        (view,) = frame.views
        np.testing.assert_array_equal(view.image, source.views[0].image)
        homogeneous = np.column_stack([frame.points.astype(np.float64), np.ones(len(frame.points))])
        u, v, scale = lidar_to_image @ homogeneous.T
        pixels, valid = view.camera.project(torch.from_numpy((homogeneous @ view.camera_from_lidar.T)[:, :3].copy()))
        assert valid.sum() > 14000
        np.testing.assert_allclose(pixels[valid], np.column_stack([u, v])[valid] / scale[valid, None], atol=1e-3)


def test_the_shipped_rig_is_that_of_the_sequence(shared_data, request):
    frame = open_kitti(shared_data("kitti_raw_2011_09_26_seq"))[0].frame
    rig = load_rig(request.config.rootpath / "config/rigs/kitti.yaml")[frame.views[0].name]
    np.testing.assert_allclose(rig.camera_from_lidar, frame.views[0].camera_from_lidar, atol=1e-6)
    assert rig.camera == frame.views[0].camera


def test_a_drive_as_downloaded_has_the_sensors_own_stamps(kitti_drive):
    recording = open_kitti(kitti_drive)
    frames = [recording[index].frame for index in range(len(recording))]
    second = 1_317_042_145 * 10**9  # 2011-09-26 13:02:25
    assert [frame.stamp - second for frame in frames] == [1, 200_000_001]
    assert [[view.stamp - second for view in frame.views] for frame in frames] == [[3], [200_000_003]]
    assert [int(frame.views[0].image[0, 0, 2]) for frame in frames] == [0, 2]


def test_oxts_files_give_the_poses_of_the_lidar(kitti_drive):
    recording = open_kitti(kitti_drive)
    (first,), (second,) = recording[0].poses, recording[1].poses
    np.testing.assert_allclose(first[1], np.eye(4), atol=1e-9)
    np.testing.assert_allclose(second[1][:3, 3], [2, 0, 0], atol=1e-3)  # two frames northwards, that is ahead
    np.testing.assert_allclose(second[1][:3, :3], np.eye(3), atol=1e-9)


def test_without_oxts_there_are_no_poses(kitti_drive):
    (kitti_drive / "oxts").rename(kitti_drive / "away")
    assert list(open_kitti(kitti_drive)[0].poses) == []


def test_a_drive_s_calibration_is_that_of_its_date(kitti_drive):
    (view,) = open_kitti(kitti_drive)[0].frame.views
    np.testing.assert_allclose(view.camera_from_lidar @ [10, 0, 0, 1], [0.1, -0.1, 9.7, 1])
    (kitti_drive.parent / "calib_velo_to_cam.txt").unlink()
    with pytest.raises(ValueError, match="calib_velo_to_cam.txt is missing: .*calibration archive"):
        open_kitti(kitti_drive)


def test_a_folder_of_several_drives_needs_a_scene(kitti_drive):
    assert len(open_kitti(kitti_drive.parent)) == 2
    (kitti_drive.parent / "2011_09_26_drive_0002_sync").symlink_to(kitti_drive)
    with pytest.raises(ValueError, match="has 2 drives: name one with --scene"):
        open_kitti(kitti_drive.parent)
    assert len(open_kitti(kitti_drive.parent, kitti_drive.name)) == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("velodyne_points/timestamps.txt", "2011-09-26 13:02:25.0\n", "timestamps.txt has no line 3, for frame 2"),
        ("image_02/timestamps.txt", "noon\n", "timestamps.txt, line 1: 'noon' is no time"),
        ("image_02/timestamps.txt", "NaT\n", "timestamps.txt, line 1: 'NaT' is no time"),
        ("oxts/data/0000000000.txt", "49.0 8.0", "0000000000.txt does not start with six numbers"),
        ("oxts/data/0000000002.txt", "49 8 1 nan 0 0", "0000000002.txt does not start with six numbers"),
    ],
)
def test_a_damaged_file_of_a_drive_is_named(kitti_drive, name, text, words):
    (kitti_drive / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        open_kitti(kitti_drive)[1]


def test_the_bag_has_the_odometry_of_a_drive(kitti_drive, tmp_path):
    write_bag(open_kitti(kitti_drive), tmp_path / "bag", {})
    frames = list(BagReader(tmp_path / "bag").frames())
    assert len(frames) == 2 and all(len(frame.views) == 1 for frame in frames)
    with open_bag(tmp_path / "bag") as bag:
        assert bag.counts["/tf"] == 2


@pytest.mark.parametrize("size", [(12, 16), (3, 4), (7, 8)], ids=["twice", "half", "a row more"])
def test_images_of_another_size_are_refused_before_anything_is_written(
    kitti_drive, tmp_path, size
):
    calibration = kitti_drive.parent / "calib_cam_to_cam.txt"
    calibration.write_text(calibration.read_text() + "S_rect_02: 8.000000e+00 6.000000e+00\n")
    open_kitti(kitti_drive)  # these are of that size
    for path in (kitti_drive / "image_02" / "data").glob("*.png"):
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    with pytest.raises(ValueError, match=f"is {size[1]}x{size[0]}, but its calibration is for 8x6: .*a _sync drive"):
        write_bag(open_kitti(kitti_drive), tmp_path / "bag", {})
    assert not list(tmp_path.glob("*bag*"))


@pytest.mark.parametrize("size", [(12, 16), (6, 16), (3, 8)])
def test_images_are_refused_if_the_principal_point_is_far_from_their_middle(sequence, size):
    for path in sequence.glob("*.png"):
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))
    with pytest.raises(ValueError, match=rf"is {size[1]}x{size[0]}, .*principal point at \(4.0, 3.0\), far from the"):
        open_kitti(sequence)
