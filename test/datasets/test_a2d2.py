import io
import json
import zipfile

import cv2
import numpy as np
import pytest
import torch

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.datasets.a2d2 import open_recording as open_a2d2
from tttkd_ros.datasets.conversion import write_bag

CAR, ROAD = OUTDOOR.names.index("car"), OUTDOOR.names.index("road")


def first(folder, kind, suffix):
    return sorted((folder / "20180807_145028" / kind / "cam_front_center").glob(f"*{suffix}"))[0]


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_frames_have_the_stamps_of_the_images(a2d2):
    recording = open_a2d2(a2d2)
    stamps = [recording[index].frame.stamp for index in range(len(recording))]
    assert stamps == [1_533_653_428_000_000_000, 1_533_653_428_100_000_000]
    assert recording[0].frame.intensity.tolist() == [0, 1, 2, 3, 4, 5]


def test_points_have_the_label_of_their_raw_pixel(a2d2):
    assert open_a2d2(a2d2)[0].frame.labels.tolist() == [CAR] * 3 + [ROAD] * 3


def test_labels_are_not_interpolated_at_their_edges(a2d2):
    points = first(a2d2, "lidar", ".npz")
    columns = np.arange(50.0, 60.0, 0.25)  # across the edge, where interpolation would give other colours
    rows = np.full(len(columns), 40.0)
    np.savez(points, points=np.column_stack([0 * rows + 10, -(columns - 60) / 10, 0 * rows]), row=rows, col=columns)
    recording = open_a2d2(a2d2)
    assert set(recording[0].frame.labels.tolist()) == {CAR, ROAD}


def test_a_point_projects_to_the_pixel_that_the_data_set_states(a2d2, tmp_path):
    write_bag(open_a2d2(a2d2), tmp_path / "bag", {})
    frame, _ = BagReader(tmp_path / "bag").frames()
    (view,) = frame.views
    homogeneous = np.column_stack([frame.points.astype(np.float64), np.ones(6)])
    pixels, valid = view.camera.project(torch.from_numpy((homogeneous @ view.camera_from_lidar.T)[:, :3].copy()))
    assert valid.all()
    np.testing.assert_allclose(pixels, np.column_stack([np.arange(30, 81, 10), np.full(6, 40)]), atol=1e-3)


def test_images_are_undistorted(a2d2):
    (view,) = open_a2d2(a2d2)[0].frame.views
    raw = cv2.cvtColor(cv2.imread(str(first(a2d2, "camera", ".png"))), cv2.COLOR_BGR2RGB)
    config = json.loads((a2d2 / "cams_lidars.json").read_text())["cameras"]["front_center"]
    expected = cv2.undistort(raw, np.array(config["CamMatrixOriginal"]), np.array(config["Distortion"][0]),
                             newCameraMatrix=np.array(config["CamMatrix"]))
    assert np.abs(view.image.astype(int) - expected).max() <= 3  # OpenCV rounds coordinates to 1/32 of a pixel
    assert np.abs(view.image.astype(int) - raw).max() > 50
    assert (view.camera.fx, view.camera.fy, view.camera.distortion) == (100.0, 105.0, ())


def test_the_bag_has_the_undistorted_image(a2d2, tmp_path):
    recording = open_a2d2(a2d2)
    write_bag(recording, tmp_path / "bag", {})
    for index, frame in enumerate(BagReader(tmp_path / "bag").frames()):
        np.testing.assert_array_equal(frame.views[0].image, recording[index].frame.views[0].image)


def test_a_pixel_of_an_unknown_colour_has_no_class(a2d2):
    path = first(a2d2, "label", ".png")
    cv2.imwrite(str(path), np.full((80, 120, 3), (3, 2, 1), np.uint8))
    assert (open_a2d2(a2d2)[0].frame.labels == UNLABELLED).all()


def test_a_point_beyond_the_image_has_no_class(a2d2):
    with np.load(first(a2d2, "lidar", ".npz")) as arrays:
        values = dict(arrays)
    values["col"][0], values["row"][1] = -3.0, 200.0
    np.savez(first(a2d2, "lidar", ".npz"), **values)
    assert open_a2d2(a2d2)[0].frame.labels.tolist() == [UNLABELLED] * 2 + [CAR] + [ROAD] * 3


def test_a_cloud_without_pixels_has_no_class_anywhere(a2d2):
    with np.load(first(a2d2, "lidar", ".npz")) as arrays:
        points = arrays["points"]
    np.savez(first(a2d2, "lidar", ".npz"), points=points)
    assert (open_a2d2(a2d2)[0].frame.labels == UNLABELLED).all()


def test_the_longer_names_of_newer_files_are_read(a2d2):
    path = first(a2d2, "lidar", ".npz")
    with np.load(path) as arrays:
        names = {name: f"pcloud_{name}" if name == "points" else f"pcloud_attr.{name}" for name in arrays.files}
        np.savez(path, **{names[name]: arrays[name] for name in arrays.files})
    assert open_a2d2(a2d2)[0].frame.labels.tolist() == [CAR] * 3 + [ROAD] * 3


def test_a_recording_without_labels_has_no_truth_and_a_warning_says_so(a2d2, caplog):
    (a2d2 / "20180807_145028" / "label").rename(a2d2 / "away")
    assert open_a2d2(a2d2)[0].frame.labels is None
    assert "no truth" in caplog.text


def test_a_folder_of_several_recordings_needs_a_scene(a2d2):
    (a2d2 / "20181108_091945").symlink_to(a2d2 / "20180807_145028")
    with pytest.raises(ValueError, match="has 2 recordings: name one with --scene"):
        open_a2d2(a2d2)
    assert len(open_a2d2(a2d2, "20180807_145028")) == len(open_a2d2(a2d2 / "20180807_145028")) == 2


@pytest.mark.parametrize("name", ["cams_lidars.json", "class_list.json"])
def test_a_missing_description_is_named(a2d2, name):
    (a2d2 / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing: it comes with the data set"):
        open_a2d2(a2d2)


def test_another_vehicle_s_calibration_is_refused(a2d2):
    def change(content):
        content["cameras"]["front_center"]["CamMatrix"][0][2] += 20

    rewrite(a2d2 / "cams_lidars.json", change)
    with pytest.raises(ValueError, match="20 pixels away .*is cams_lidars.json this vehicle's"):
        open_a2d2(a2d2)


@pytest.mark.parametrize("key", ["Lens", "CamMatrix", "CamMatrixOriginal", "Distortion", "Resolution", "view"])
def test_an_incomplete_calibration_is_refused(a2d2, key):
    rewrite(a2d2 / "cams_lidars.json", lambda content: content["cameras"]["front_center"].pop(key))
    with pytest.raises(ValueError, match=f"does not describe the camera front_center.*{key}"):
        open_a2d2(a2d2)


def test_a_class_list_of_other_classes_is_refused(a2d2):
    (a2d2 / "class_list.json").write_text('{"#ff0000": "Car 1"}')
    with pytest.raises(ValueError, match="no colour for .*Buildings"):
        open_a2d2(a2d2)


@pytest.mark.parametrize(
    ("kind", "suffix", "words"),
    [
        ("lidar", ".npz", "is no cloud of A2D2's"),
        ("camera", ".png", "cannot be decoded as an image"),
        ("camera", ".json", "is no JSON"),
        ("label", ".png", "cannot be decoded as an image"),
    ],
)
def test_a_damaged_file_is_named(a2d2, kind, suffix, words):
    path = first(a2d2, kind, suffix)
    path.write_bytes(b"garbage")
    with pytest.raises(ValueError, match=f"{path.name} {words}"):
        open_a2d2(a2d2)[0]


@pytest.mark.parametrize("change", [lambda content: content.pop("cam_tstamp"),
                                    lambda content: content.update(cam_tstamp=float("inf"))])
def test_an_image_without_a_valid_stamp_is_refused(a2d2, change):
    path = first(a2d2, "camera", ".json")
    rewrite(path, change)
    with pytest.raises(ValueError, match=f"{path.name} does not say when"):
        open_a2d2(a2d2)[0]


@pytest.mark.parametrize("kind", ["camera", "label"])
def test_an_image_of_another_size_is_refused(a2d2, kind):
    cv2.imwrite(str(first(a2d2, kind, ".png")), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(ValueError, match=f"{kind}_frontcenter_0+.png is 60x40, but cams_lidars.json says 120x80"):
        open_a2d2(a2d2)[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("Resolution", [10**6, 10**6]), ("Resolution", [float("inf"), 80]), ("CamMatrix", [10**400] * 9),
     ("view", {"origin": [0, 0, 0], "x-axis": [0, 0, 0], "y-axis": [0, 1, 0]})],
)  # fmt: skip
def test_a_calibration_out_of_bounds_is_refused(a2d2, key, value):
    rewrite(a2d2 / "cams_lidars.json", lambda content: content["cameras"]["front_center"].update({key: value}))
    with pytest.raises(ValueError, match="does not describe the camera front_center"):
        open_a2d2(a2d2)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("class_list.json", "[]", "class_list.json is no JSON of A2D2's .*expected an object, it is a list"),
        ("cams_lidars.json", "[" * 100_000, "cams_lidars.json is no JSON of A2D2's"),
        ("class_list.json", '{"#ff0000": ["Car 1"]}', "class_list.json is no list of A2D2's colours"),
        ("class_list.json", '{"#ffffffffffffffffff": "Car 1"}', "class_list.json is no list of A2D2's colours"),
    ],
)
def test_a_description_of_another_form_is_refused(a2d2, name, text, words):
    (a2d2 / name).write_text(text)
    with pytest.raises(ValueError, match=words):
        open_a2d2(a2d2)


def test_a_cloud_that_claims_to_be_larger_than_memory_is_refused(a2d2):
    path = first(a2d2, "lidar", ".npz")
    with io.BytesIO() as member, zipfile.ZipFile(path, "w") as archive:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (2**50, 3)})
        archive.writestr("points.npy", member.getvalue())
    with pytest.raises(ValueError, match=f"{path.name} is no cloud of A2D2's, or damaged .*MemoryError"):
        open_a2d2(a2d2)[0]
