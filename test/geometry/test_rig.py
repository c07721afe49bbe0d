from pathlib import Path

import numpy as np
import pytest

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera, load_base_from_lidar, load_rig, save_rig
from tttkd_ros.geometry.transforms import transform

ROOT = Path(__file__).parents[2]


def write(path, text):
    path = path / "rig.yaml"
    path.write_text(text)
    return path


def test_saved_rig_is_loaded_exactly(tmp_path):
    model = CameraModel(640, 480, 501.3, 499.7, 320.5, 239.1, "rational_polynomial", (0.1, 1e-7, 0, 0, 1, 2, 3, 4e-11))
    rig = {"left": RigCamera(transform((0.1, 1 / 3, -2), (0.1, 0.2, 0.3, 0.9)), model),
           "right": RigCamera(transform((0, 0, 1), (0, 0, 0, 1)))}
    save_rig(tmp_path / "rig.yaml", rig)

    loaded = load_rig(tmp_path / "rig.yaml")

    assert list(loaded) == ["left", "right"]
    assert loaded["left"].camera == model
    assert loaded["right"].camera is None
    np.testing.assert_array_equal(loaded["left"].camera_from_lidar, rig["left"].camera_from_lidar)


def test_pose_may_be_translation_and_rotation(tmp_path):
    path = write(tmp_path, "cameras: {a: {camera_from_lidar: {translation: [1, 2, 3], rotation: [0, 0, 0.5, 0.5]}}}")
    np.testing.assert_allclose(load_rig(path)["a"].camera_from_lidar, transform((1, 2, 3), (0, 0, 1, 1)), atol=1e-12)


def test_shipped_rigs_load():
    paths = sorted((ROOT / "config/rigs").glob("*.yaml"))
    assert ROOT / "config/rigs/kitti.yaml" in paths
    assert all(load_rig(path) for path in paths)


def test_missing_rig_is_refused_with_its_path(tmp_path):
    with pytest.raises(ValueError, match="no rig file at .*absent.yaml"):
        load_rig(tmp_path / "absent.yaml")


@pytest.mark.parametrize("text, message", [
    ("cameras: [", "not YAML"),
    ("", "no mapping 'cameras'"),
    ("cameras: {a: {}, b: {}, a: {}}", "rig .*rig.yaml: 'a' occurs twice in one mapping, again in line 1: keep one"),
    ("cameras: 3", "no mapping 'cameras'"),
    ("cameras: {a: 3}", "camera 'a': camera is 3"),
    ("cameras: {a: {}}", "camera 'a': camera_from_lidar is None"),
    ("cameras: {a: {camera_from_lidar: {translation: [0, 0, 0]}}}", "expected 'matrix'"),
    ("cameras: {a: {camera_from_lidar: {translation: [0, 0, 0], rotation: [0, 0, 0, 0]}}}", "no rotation"),
    ("cameras: {a: {camera_from_lidar: {matrix: [[1, 0], [0, 1]]}}}", r"\(4, 4\)"),
    ("cameras: {a: {camera_from_lidar: {translation: [0, 0, x], rotation: [0, 0, 0, 1]}}}", "camera 'a'"),
    ("cameras: {a: {camera_from_lidar: {translation: [0, 0, 0], rotation: [0, 0, 0, 1]}, camera_info: {width: 3}}}",
     "lacks height, k"),
    ("cameras: {a: {camera_from_lidar: {translation: [0, 0, 0], rotation: [0, 0, 0, 1]}, "
     "camera_info: {width: 3, height: 3, k: [0, 0, 0, 0, 0, 0, 0, 0, 0]}}}", "focal"),
])
def test_invalid_rig_is_refused_with_the_reason(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load_rig(write(tmp_path, text))


@pytest.mark.parametrize("text", [
    "[" * 500,
    "cameras: {a: !!int ''}",
    "cameras: {a: !!timestamp soon}",
    "cameras: {a: 2001-99-99}",
])
def test_text_on_which_the_yaml_parser_fails_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="rig.yaml is not YAML"):
        load_rig(write(tmp_path, text))


@pytest.mark.parametrize("place", ["translation: [0, 0, HUGE], rotation: [0, 0, 0, 1]", "matrix: [[HUGE]]"])
def test_number_too_large_for_a_float_is_refused(tmp_path, place):
    text = f"cameras: {{a: {{camera_from_lidar: {{{place}}}}}}}".replace("HUGE", "9" * 400)
    with pytest.raises(ValueError, match="camera 'a'"):
        load_rig(write(tmp_path, text))


def test_aliases_that_multiply_are_refused(tmp_path):
    lines = ["l0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(ValueError, match="more than 100000 values"):
        load_rig(write(tmp_path, "\n".join([*lines, "cameras: {a: {camera_from_lidar: {matrix: *l11}}}"])))


def test_list_that_contains_itself_is_refused(tmp_path):
    with pytest.raises(ValueError, match="more than 100000 values"):
        load_rig(write(tmp_path, "cameras: {a: {camera_from_lidar: {matrix: &m [*m]}}}"))


@pytest.mark.parametrize("text", [
    "base_from_lidar: {translation: [0, 0, 2], rotation: [1, 0, 0, 0]}",
    "base_from_lidar: {matrix: [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]]}",
    "base_from_lidar: {translation: [0, 0, 2], rotation: [-1, 0, 0, 0]}\ncameras: {}",
])  # fmt: skip
def test_rig_may_have_base_from_lidar(tmp_path, text):
    path = tmp_path / "rig.yaml"
    path.write_text(text)
    assert load_rig(path) == {}
    upside_down = [[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2], [0, 0, 0, 1]]
    np.testing.assert_allclose(load_base_from_lidar(path), upside_down, atol=1e-12)


@pytest.mark.parametrize("place", [
    "{}", "up", "{translation: [0, 0, 2]}", "{translation: [0, 0], rotation: [0, 0, 0, 1]}",
])  # fmt: skip
def test_invalid_base_from_lidar_is_refused(tmp_path, place):
    path = tmp_path / "rig.yaml"
    path.write_text(f"base_from_lidar: {place}")
    with pytest.raises(ValueError, match="base_from_lidar"):
        load_base_from_lidar(path)
