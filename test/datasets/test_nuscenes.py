import json
import re

import numpy as np
import pytest

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.datasets import nuscenes_tables
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.nuscenes import open_recording as open_nuscenes
from tttkd_ros.datasets.nuscenes import scenes
from tttkd_ros.datasets.parts import RecordedPart
from tttkd_ros.geometry.transforms import inverse

PIXELS = (1600, 900)


def quaternion(matrix):
    """w x y z"""
    from scipy.spatial.transform import Rotation

    # The published matrices are rounded to float32.
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return [w, x, y, z]


def pose(row, matrix):
    return row | {"translation": matrix[:3, 3].tolist(), "rotation": quaternion(matrix)}


@pytest.fixture
def recorded(shared_data, tmp_path):
    """The recorded keyframe with tables made for it, and its published camera_from_lidar matrices."""
    source = shared_data("nuscenes_ca9a282c")
    published = json.loads((source / "calib.json").read_text())
    folder = tmp_path / "recorded"
    world, vehicle_from_lidar = np.array(published["ego2global"]), np.array(published["lidar"]["lidar2ego"])
    tables = {"scene": [{"token": "s", "name": "scene-0103"}], "sensor": [], "calibrated_sensor": [], "ego_pose": [],
              "sample_data": [], "sample": [{"token": "f", "timestamp": 1532402927647951, "scene_token": "s"}]}
    expected = {}

    def add(channel, file, stamp, place, vehicle, intrinsics):
        (folder / "samples" / channel).mkdir(parents=True)
        (folder / "samples" / channel / file).symlink_to(source / file)
        tables["sensor"].append({"token": channel, "channel": channel})
        tables["calibrated_sensor"].append(
            pose({"token": channel, "sensor_token": channel, "camera_intrinsic": intrinsics}, place)
        )
        tables["ego_pose"].append(pose({"token": channel}, vehicle))
        tables["sample_data"].append({
            "token": channel, "sample_token": "f", "ego_pose_token": channel, "calibrated_sensor_token": channel,
            "timestamp": stamp, "is_key_frame": True, "filename": f"samples/{channel}/{file}",
        })

    add("LIDAR_TOP", published["lidar"]["lidar_path"], 1532402927647951, vehicle_from_lidar, world, [])
    for channel, camera in published["cameras"].items():
        expected[channel] = np.array(camera["lidar2cam"])
        place = np.array(camera["cam2ego"])
        # Where the vehicle was when the image was taken follows from the compensated transform.
        vehicle = world @ vehicle_from_lidar @ np.linalg.inv(expected[channel]) @ np.linalg.inv(place)
        stamp = round(camera["timestamp"] * 1e6)
        add(channel, camera["img_path"], stamp, place, vehicle, camera["cam2img"])
    (folder / "v1.0-mini").mkdir()
    for name, rows in tables.items():
        (folder / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    return folder, expected


def test_keyframes_become_frames_in_order_of_time(nuscenes):
    recording = open_nuscenes(nuscenes())
    assert len(recording) == 2
    frames = [recording[index].frame for index in range(2)]
    assert [frame.stamp for frame in frames] == [1_532_402_927_647_951_000, 1_532_402_928_147_951_000]
    for frame in frames:
        assert [view.name for view in frame.views] == ["camera_back", "camera_front"]
        assert all(view.stamp == frame.stamp - 20_000_000 for view in frame.views)
        assert frame.points.shape == (5, 3)


def test_labels_are_mapped_by_the_names_of_the_table(nuscenes):
    labels = open_nuscenes(nuscenes())[0].frame.labels
    names = [None if label == UNLABELLED else OUTDOOR.names[label] for label in labels]
    assert names == [None, "car", "road", "building", None]


def test_a_scene_without_lidarseg_has_no_truth_and_a_warning_says_so(nuscenes, caplog):
    folder = nuscenes()
    (folder / "v1.0-mini" / "lidarseg.json").unlink()
    assert open_nuscenes(folder)[0].frame.labels is None
    assert "no lidarseg.json" in caplog.text


def test_there_is_a_pose_at_each_sensor_s_stamp(nuscenes):
    poses = open_nuscenes(nuscenes())[1].poses
    assert [stamp % 10**9 // 10**6 for stamp, _ in poses] == [127, 147]
    np.testing.assert_allclose(poses[1][1][:3, 3] - poses[0][1][:3, 3], [0.2, 0, 0], atol=1e-9)


def test_a_view_that_is_read_from_the_bag_is_motion_compensated(nuscenes, tmp_path):
    recording = open_nuscenes(nuscenes())
    write_bag(recording, tmp_path / "bag", {})
    for frame, index in zip(BagReader(tmp_path / "bag").frames(), range(2), strict=True):
        for view, recorded_view in zip(frame.views, recording[index].frame.views, strict=True):
            # What the camera sees now lay 0.2 m further ahead when the image was taken.
            moved = view.camera_from_lidar @ inverse(recorded_view.camera_from_lidar)
            np.testing.assert_allclose(abs(moved[2, 3]), 0.2, atol=1e-6)


def test_a_folder_of_several_scenes_needs_a_scene(nuscenes):
    folder = nuscenes(2)
    with pytest.raises(ValueError, match=r"has 2 scenes: name one with --scene \(scene-0000, scene-0001\)"):
        open_nuscenes(folder)
    assert len(open_nuscenes(folder, "scene-0001")) == 2
    with pytest.raises(ValueError, match="no scene 'scene-9999'"):
        open_nuscenes(folder, "scene-9999")


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 0 folders v1.0-.*unpack the metadata"):
        open_nuscenes(tmp_path)


@pytest.mark.parametrize("block", [300, 1000, 2**20])
def test_tables_are_read_completely_with_every_block_size(nuscenes, monkeypatch, block):
    folder = nuscenes()
    expected = json.loads((folder / "v1.0-mini" / "sample_data.json").read_text())
    monkeypatch.setattr(nuscenes_tables, "BLOCK_SIZE", block)
    assert list(nuscenes_tables.read_rows(folder / "v1.0-mini" / "sample_data.json")) == expected


def test_each_table_is_read_once_for_all_scenes(nuscenes, monkeypatch):
    folder, read, read_rows = nuscenes(3), [], nuscenes_tables.read_rows
    monkeypatch.setattr(nuscenes_tables, "read_rows", lambda path: (read.append(path.stem), read_rows(path))[1])
    frames = [frame.stamp for scene in scenes(folder) for frame in RecordedPart("nuscenes", folder, scene, OUTDOOR)]
    assert len(set(frames)) == 6
    assert sorted(read) == sorted(nuscenes_tables.COLUMNS)


def test_tables_that_have_changed_are_read_again(nuscenes):
    folder = nuscenes(2)
    assert len(open_nuscenes(folder, "scene-0001")) == 2
    change_rows(folder, "scene", lambda row: row.update(name=row["name"].replace("scene", "drive")))
    change_rows(folder, "sample_data", lambda row: row.update(is_key_frame=row["token"].endswith(" 0")))
    assert scenes(folder) == ["drive-0000", "drive-0001"] and len(open_nuscenes(folder, "drive-0001")) == 1


def test_only_what_frames_depend_on_changes_the_inputs_of_a_scene(nuscenes):
    folder = nuscenes(2)
    before = open_nuscenes(folder, "scene-0000").inputs
    change_rows(folder, "sample_data", lambda row: row.update(prev=""))
    change_rows(folder, "ego_pose", lambda row: row["translation"].__setitem__(1, 3 if " 1 " in row["token"] else 0))
    assert open_nuscenes(folder, "scene-0000").inputs == before
    change_rows(folder, "ego_pose", lambda row: row["translation"].__setitem__(1, 3))
    assert open_nuscenes(folder, "scene-0000").inputs != before


@pytest.mark.parametrize(
    ("table", "change", "words"),
    [
        ("sample_data", lambda text: text[:-20], "sample_data.json is cut short"),
        ("sample", lambda text: "garbage", "sample.json is cut short or no table"),
        ("ego_pose", lambda text: "[]", "ego_pose.json lacks 6 rows"),
        ("calibrated_sensor", lambda text: text.replace('"rotation"', '"turn"'), "has a row without all of token"),
        ("category", lambda text: text.replace('"index"', '"number"'), "no indices: unpack nuScenes-lidarseg's own"),
        ("lidarseg", lambda text: "[]", "lidarseg.json has no labels for sweep LIDAR_TOP 0 0"),
        ("scene", lambda text: "[" * 100_000, "scene.json is cut short or no table"),
        ("scene", lambda text: text.replace('"scene 0"', "[]"), r"a row whose token is \[\], no str"),
        ("sample_data", lambda text: re.sub("15324029[0-9]*", "1e300", text), r"a row whose timestamp is 1e\+300, no"),
        ("sample_data", lambda text: text.replace("samples/", 300 * "x"), "no sweep at .*xxx"),
        ("lidarseg", lambda text: text.replace("lidarseg/", 300 * "x"), "no labels at .*xxx"),
        ("calibrated_sensor", lambda text: text.replace("5.0", "{}"), "no 3x3 camera_intrinsic for CAM_BACK"),
        ("ego_pose", lambda text: text.replace("400.0", "null"), "ego_pose.json, .* 0 [01]: translation .*unpack"),
        ("ego_pose", lambda text: text.replace('"rotation": [\n1,', '"rotation": ['), "ego_pose.json, .*not enough"),
        ("category", lambda text: "[]", "category.json has no indices"),
        ("category", lambda text: text.replace("4", "1" + 30 * "0"), "category.json has no indices"),
    ],
)
def test_damaged_tables_are_named(nuscenes, table, change, words):
    path = nuscenes() / "v1.0-mini" / f"{table}.json"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=words):
        open_nuscenes(path.parents[1])[0]


@pytest.mark.parametrize("table", ["scene", "sample", "sample_data", "calibrated_sensor", "sensor", "ego_pose"])
def test_missing_tables_are_named(nuscenes, table):
    path = nuscenes() / "v1.0-mini" / f"{table}.json"
    path.unlink()
    with pytest.raises(ValueError, match=f"{table}.json"):
        open_nuscenes(path.parents[1])


def test_missing_files_are_named(nuscenes):
    folder = nuscenes()
    (folder / "samples" / "CAM_BACK" / "0_0.jpg").unlink()
    with pytest.raises(ValueError, match="no image at .*CAM_BACK/0_0.jpg"):
        open_nuscenes(folder)[0]
    (folder / "samples" / "LIDAR_TOP" / "0_1.pcd.bin").unlink()
    with pytest.raises(ValueError, match="no sweep at .*LIDAR_TOP/0_1.pcd.bin"):
        open_nuscenes(folder)[1]


def test_image_files_are_unchanged(nuscenes):
    folder = nuscenes()
    images = open_nuscenes(folder)[0].images
    assert images["camera_front"] == (folder / "samples" / "CAM_FRONT" / "0_0.jpg").read_bytes()


def test_the_recorded_keyframe_has_the_published_transforms_of_all_six_cameras(recorded, tmp_path):
    folder, expected = recorded
    write_bag(open_nuscenes(folder), tmp_path / "bag", {})
    (frame,) = BagReader(tmp_path / "bag").frames()
    assert len(frame.points) == 34688 and frame.labels is None and len(frame.views) == 6
    for view in frame.views:
        channel = "CAM_" + view.name.removeprefix("camera_").upper()
        np.testing.assert_allclose(view.camera_from_lidar, expected[channel], atol=2e-4)
        assert view.image.shape[1::-1] == PIXELS


def change_rows(folder, table, change):
    """Apply `change` to every row of the table."""
    path = folder / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    for row in rows:
        change(row)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize("name", ["/etc/passwd", "../elsewhere.bin", "samples/../../elsewhere.bin"])
@pytest.mark.parametrize("table", ["sample_data", "lidarseg"])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(nuscenes, table, name):
    folder = nuscenes()
    change_rows(folder, table, lambda row: row.update(filename=name))
    with pytest.raises(ValueError, match=f"{table}.json names the file '{name}', which is not in "):
        open_nuscenes(folder)[0]


@pytest.mark.parametrize(("width", "height"), [(16, 12), (8, 7), (4, 3)])
def test_images_of_another_size_than_the_tables_state_are_refused(nuscenes, tmp_path, width, height):
    folder = nuscenes()
    change_rows(folder, "sample_data", lambda row: row.update(width=width, height=height))
    with pytest.raises(ValueError, match=f"is 8x6, but its calibration is for {width}x{height}: unpack the original"):
        open_nuscenes(folder)
