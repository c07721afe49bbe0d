import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tttkd_ros.frame import Frame
from tttkd_ros.geometry.mounting import Mounting, levelling_rotation


def base_from_lidar(*angles, order="xyz"):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler(order, angles, degrees=True).as_matrix()
    matrix[:3, 3] = 1.0, 2.0, 3.0
    return matrix


@pytest.mark.parametrize("angles", [(0, 25, 0), (-30, 0, 80), (180, 0, 0), (0, 180, 30), (-90, 0, -90), (10, 20, 30)])
def test_levelled_heights_equal_those_in_the_base_frame(angles):
    place = base_from_lidar(*angles)
    points = np.random.default_rng(0).uniform(-10, 10, (50, 3)).astype(np.float32)
    upright = Frame(0, points, level=levelling_rotation(place)).upright
    np.testing.assert_allclose(upright[:, 2], points @ place[2, :3], atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(upright, axis=1), np.linalg.norm(points, axis=1), rtol=1e-5)
    assert np.linalg.det(levelling_rotation(place)) == pytest.approx(1)


@pytest.mark.parametrize("yaw", [0, 45, -170])
def test_level_sensor_keeps_its_points_unchanged(yaw):
    assert levelling_rotation(base_from_lidar(0, 0, yaw)) is None
    points = np.ones((3, 3), np.float32)
    assert Frame(0, points, level=None).upright is points


def test_levelling_keeps_the_heading():
    turned = levelling_rotation(base_from_lidar(3, -4, 120)) @ [1.0, 0.0, 0.0]
    assert np.degrees(np.arctan2(turned[1], turned[0])) == pytest.approx(0, abs=1)


class Lookup(list):
    """Gives each LiDAR frame's place in the base frame; notes what it was asked for."""

    def __init__(self, **places):
        super().__init__()
        self.places = places

    def __call__(self, base, frame, *when):
        self.append((base, frame, *when))
        if frame not in self.places:
            raise ValueError(f"{frame} is not known")
        return self.places[frame]


def test_mounting_is_looked_up_by_the_frame_of_each_sweep():
    lookup = Lookup(front=base_from_lidar(180, 0, 0), top=base_from_lidar(0, 0, 90))
    mounting = Mounting(None, "base_link", lookup, lambda text: None)
    assert mounting.level("front", 1)[2, 2] == pytest.approx(-1)
    assert mounting.level("top", 2) is None
    assert lookup == [("base_link", "front", 1), ("base_link", "top", 2)]


def test_rig_takes_precedence_over_tf():
    lookup = Lookup(lidar=base_from_lidar(0, 0, 0))
    assert Mounting(base_from_lidar(0, 90, 0), "base_link", lookup, print).level("lidar", 1) is not None
    assert lookup == []


@pytest.mark.parametrize(("base_frame", "frame"), [("", "lidar"), ("base_link", "base_link"), ("/lidar", "lidar")])
def test_nothing_is_looked_up_if_no_levelling_is_needed(base_frame, frame):
    lookup = Lookup()
    assert Mounting(None, base_frame, lookup, print).level(frame, 1) is None
    assert lookup == []


def test_mounting_is_logged_if_it_changes():
    logged, lookup = [], Lookup()
    mounting = Mounting(None, "base_link", lookup, logged.append)
    for tilt in (None, None, 180, 181, None):
        lookup.places = {} if tilt is None else {"lidar": base_from_lidar(tilt, 0, 0)}
        mounting.level("lidar", 1)
    assert [text.partition(": ")[2].partition(":")[0] for text in logged] == [
        "points are taken as level", "by TF (base_link) it is tilted by about 180 degrees", "points are taken as level"
    ]
