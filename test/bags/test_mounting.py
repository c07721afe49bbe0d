"""Which way a bag's LiDAR is mounted, by its transforms or by a rig."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from tttkd_ros.bags.reader import BagReader

CLOUD, TF = "sensor_msgs/msg/PointCloud2", "tf2_msgs/msg/TFMessage"
START, SECOND = 1_700_000_000 * 10**9, 10**9
POINTS = np.array([[1, 2, 3], [4, -5, 6], [-7, 8, -9]], np.float32)
UPSIDE_DOWN, OPTICAL = (1.0, 0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5)


@pytest.fixture
def drive(make, write_messages):
    """`drive(links)`: a bag of two sweeps, one of LiDAR "a" and one of "b", with these static transforms."""

    def bag(links):
        messages = [("/tf_static", TF, make.transforms(*links), START - 1)] if links else []
        for number, frame in enumerate("ab"):
            stamp = START + number * SECOND // 10
            messages.append(("/lidar/points", CLOUD, make.cloud(stamp, POINTS, frame), stamp))
        return write_messages(messages, "bag")

    return bag


def place(frame, rotation, base="base_link"):
    return base, frame, (0.0, 0.0, 1.5), rotation


def heights(reader):
    return [frame.upright[:, 2].round(4).tolist() for frame in reader.frames()]


def test_each_sweep_is_levelled_by_its_own_frame(drive):
    path = drive([place("a", UPSIDE_DOWN), place("b", OPTICAL)])
    assert heights(BagReader(path)) == [(-POINTS[:, 2]).tolist(), (-POINTS[:, 1]).tolist()]


def test_the_points_themselves_stay_in_the_sensors_frame(drive):
    frames = list(BagReader(drive([place("a", UPSIDE_DOWN)])).frames())
    assert all(np.array_equal(frame.points, POINTS) and frame.projectable is frame.points for frame in frames)
    assert [frame.level is None for frame in frames] == [False, True]


@pytest.mark.parametrize(("links", "options"), [
    ([], {}),
    ([place("a", UPSIDE_DOWN)], {"base_frame": ""}),
    ([place("a", UPSIDE_DOWN)], {"base_frame": "base_footprint"}),
])  # fmt: skip
def test_without_a_mounting_the_points_are_taken_as_level(drive, links, options):
    assert heights(BagReader(drive(links), **options)) == [POINTS[:, 2].tolist()] * 2


def test_another_base_frame_may_be_named(drive):
    path = drive([place("a", UPSIDE_DOWN, "base_stabilised")])
    assert heights(BagReader(path, base_frame="base_stabilised"))[0] == (-POINTS[:, 2]).tolist()


def test_a_rig_overrides_the_transforms(drive, tmp_path):
    rig = tmp_path / "rig.yaml"
    rig.write_text(yaml.safe_dump({"base_from_lidar": {"translation": [0, 0, 1.5], "rotation": list(UPSIDE_DOWN)}}))
    path = drive([place("a", OPTICAL)])
    assert heights(BagReader(path, rig=rig)) == [(-POINTS[:, 2]).tolist()] * 2
