"""Small frames, and bags of messages that no `Frame` would make."""

from __future__ import annotations

import numpy as np
import pytest

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.cloud_encoding import encode_labelled, encode_points
from tttkd_ros.messages.definitions import standard_types

START = 1_700_000_000 * 10**9
PERIOD = 10**8
CAMERA = CameraModel(8, 6, 5.0, 5.0, 4.0, 3.0, "plumb_bob", (0.1, 0.01, 0.0, 0.0, 0.0))
# x forward, y left, z up to x right, y down, z forward, and a camera that sits beside the LiDAR
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])


def make_frame(index: int, *, image_delay: int = 0, labels: bool = True, views: bool = True, points: int = 20) -> Frame:
    """A sweep at 10 Hz with one camera; its content tells its index. image_delay: ns."""
    generator = np.random.default_rng(index)
    stamp = START + index * PERIOD
    image = np.full((CAMERA.height, CAMERA.width, 3), index % 256, np.uint8)
    view = View("camera_front", stamp + image_delay, image, CAMERA, CAMERA_FROM_LIDAR)
    return Frame(
        stamp,
        generator.normal(size=(points, 3)).astype(np.float32),
        (view,) if views else (),
        {"intensity": generator.random(points, np.float32)},
        generator.integers(0, 10, points).astype(np.uint8) if labels else None,
    )


class Messages:
    """Makes messages with rosbags' types."""

    def __init__(self):
        self._store = standard_types()

    def __call__(self, msgtype: str, **fields):
        return self._store.types[msgtype](**fields)

    def header(self, stamp: int, frame_id: str):
        time = self("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self("std_msgs/msg/Header", stamp=time, frame_id=frame_id)

    def cloud(self, stamp: int, points: np.ndarray, frame_id: str = "lidar", **changes):
        encoded = encode_points(points)
        fields = [self("sensor_msgs/msg/PointField", **field._asdict()) for field in encoded.fields]
        values = {
            "header": self.header(stamp, frame_id), "height": 1, "width": encoded.width, "fields": fields,
            "is_bigendian": False, "point_step": encoded.point_step, "row_step": encoded.point_step * encoded.width,
            "data": encoded.data, "is_dense": True,
        }  # fmt: skip
        return self("sensor_msgs/msg/PointCloud2", **(values | changes))

    def labelled(self, stamp: int, labels: np.ndarray):
        """A labelled cloud, confidence 0.5."""
        size = len(labels)
        points, confidence = np.ones((size, 3), np.float32), np.full(size, 0.5, np.float32)
        encoded = encode_labelled(points, labels, confidence, np.zeros((256, 3), np.uint8))
        fields = [self("sensor_msgs/msg/PointField", **field._asdict()) for field in encoded.fields]
        return self.cloud(
            stamp, points, fields=fields, point_step=encoded.point_step, row_step=size * encoded.point_step,
            data=encoded.data,
        )  # fmt: skip

    def image(self, stamp: int, pixels: np.ndarray, encoding: str = "rgb8"):
        return self(
            "sensor_msgs/msg/Image", header=self.header(stamp, "camera_front_optical"), height=pixels.shape[0],
            width=pixels.shape[1], encoding=encoding, is_bigendian=0, step=pixels[0].nbytes, data=pixels.reshape(-1),
        )  # fmt: skip

    def info(self, stamp: int, *, focal: float = 5.0, frame_id: str = "camera_front_optical"):
        roi = self("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
        k = np.array([focal, 0, 4, 0, focal, 3, 0, 0, 1])
        return self(
            "sensor_msgs/msg/CameraInfo", header=self.header(stamp, frame_id), height=6, width=8, roi=roi,
            distortion_model="plumb_bob", d=np.zeros(5), k=k, r=np.eye(3).reshape(-1), p=np.zeros(12), binning_x=0,
            binning_y=0,
        )  # fmt: skip

    def transforms(self, *links: tuple[str, str, tuple[float, ...], tuple[float, ...]]):
        """links: parent, child, translation, quaternion x y z w."""
        return self("tf2_msgs/msg/TFMessage", transforms=[
            self(
                "geometry_msgs/msg/TransformStamped", header=self.header(START, parent), child_frame_id=child,
                transform=self(
                    "geometry_msgs/msg/Transform",
                    translation=self("geometry_msgs/msg/Vector3", **dict(zip("xyz", move, strict=True))),
                    rotation=self("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", rotation, strict=True))),
                ),
            )
            for parent, child, move, rotation in links
        ])  # fmt: skip


@pytest.fixture(scope="session")
def make():
    return Messages()


@pytest.fixture
def frame():
    return make_frame


@pytest.fixture
def write_frames(tmp_path):
    """`write_frames(frames, name="bag", **options)`: the path of a bag that holds them."""

    def write(frames, name: str = "bag", **options):
        with BagWriter(tmp_path / name, **options) as bag:
            for each in frames:
                bag.write_frame(each)
        return tmp_path / name

    return write


@pytest.fixture
def write_messages(tmp_path):
    """`write_messages([(topic, msgtype, msg, time), ...])`: the path of a bag with them in that order."""

    def write(messages, name: str = "bag"):
        with BagWriter(tmp_path / name) as bag:
            for message in messages:
                bag.write(*message)
        return tmp_path / name

    return write
