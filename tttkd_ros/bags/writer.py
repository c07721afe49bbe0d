"""Frames to a rosbag2 bag, without ROS."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from scipy.spatial.transform import Rotation

from tttkd_ros.bags import topics
from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.files import FREE_SPACE, Unwritable, naming
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.cloud_encoding import CloudBytes, encode_labelled, encode_points
from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.point_times import with_times
from tttkd_ros.messages.stamps import SECOND, split

STORAGE = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
METADATA_VERSION = 8  # 9 spells the QoS profiles in a way that Humble's rosbag2 does not read
JPEG = b"\xff\xd8\xff"  # how such a file starts
NO_LIMIT = QosTime(0, 0)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, NO_LIMIT, NO_LIMIT,
    QosLiveliness.SYSTEM_DEFAULT, NO_LIMIT, False,
)  # fmt: skip


class BagWriter:
    """Writes one bag; use it in a `with` statement.

    The bag takes its place at `path` only when all is written: until then it lies in a hidden folder beside it, and an
    exception removes that. storage: "mcap" or "sqlite3". class_set: whose colours the truth is given. overwrite:
    replace a bag at `path`. point_step: bytes of each point of a sweep; 0: what its fields take. Raises ValueError if
    there is something else at `path`. What writes raises Unwritable where the disk is full.
    """

    def __init__(
        self, path: Path | str, *, storage: str = "mcap", class_set: ClassSet = OUTDOOR, overwrite: bool = False,
        point_step: int = 0,
    ):
        self.path = Path(path)
        if self.path.exists() and not overwrite:
            raise ValueError(f"{self.path} exists: choose another name, or remove it")
        if self.path.exists() and not (self.path / "metadata.yaml").is_file():
            raise ValueError(f"{self.path} is no bag (no metadata.yaml in it) and is not replaced: choose another name")
        if storage not in STORAGE:
            raise ValueError(f"storage is {storage!r}, expected one of {', '.join(STORAGE)}")
        self._storage = STORAGE[storage]
        self._palette = class_set.palette
        self._point_step = point_step
        self._types = standard_types()
        self._connections = {}
        self._static: dict[str, np.ndarray] = {}  # camera -> camera_from_lidar
        self._infos: dict[str, tuple] = {}  # camera -> its model, and the message fields made from it

    def __enter__(self) -> BagWriter:
        with _naming(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._partial = Path(
                tempfile.mkdtemp(prefix=f".{self.path.name}-", suffix=".partial", dir=self.path.parent)
            )
            try:
                self._writer = Writer(
                    self._partial / self.path.name, version=METADATA_VERSION, storage_plugin=self._storage
                ).__enter__()
            except BaseException:
                shutil.rmtree(self._partial)
                raise
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            # To finish a bag that is thrown away may fail for the reason that is on its way already.
            with suppress(Exception) if kind else _naming(self.path):
                self._writer.__exit__(kind, error, traceback)
            if kind is None:
                if self.path.exists():
                    self.path.rename(self._partial / f"{self.path.name}.replaced")
                (self._partial / self.path.name).rename(self.path)
        finally:
            shutil.rmtree(self._partial)

    def write(self, topic: str, msgtype: str, msg, stamp_ns: int) -> None:
        """One message: an object with the fields of its ROS type and rosbags' field types, or its CDR bytes."""
        if not 0 <= stamp_ns < 2**31 * SECOND:
            raise ValueError(f"stamp is {stamp_ns} ns, expected 0 to 2^31 s: ROS can hold no other")
        if topic not in self._connections:
            qos = [LATCHED] if topic == topics.STATIC_TOPIC else []
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=self._types, offered_qos_profiles=qos
            )
        connection = self._connections[topic]
        if connection.msgtype != msgtype:
            raise ValueError(f"topic {topic} holds {connection.msgtype}, expected no {msgtype} there")
        data = msg if isinstance(msg, (bytes, bytearray, memoryview)) else self._types.serialize_cdr(msg, msgtype)
        with _naming(self.path):
            self._writer.write(connection, stamp_ns, data)

    def write_frame(
        self, frame: Frame, *, lidar_frame: str = "lidar", encoded: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """A sweep, its views and, if it has labels, its truth, each recorded at its own stamp.

        encoded: camera -> the PNG or JPEG file that its view's image was decoded from; such an image is written as that
        file, compressed as it is.
        """
        self.write_static(frame.views, lidar_frame=lidar_frame, stamp=min([frame.stamp, *_stamps(frame.views)]))
        points = np.asarray(frame.points, np.float32)
        cloud = encode_points(points, frame.intensity)
        cloud = cloud if frame.times is None else with_times(cloud, frame.times)
        cloud = cloud.padded(self._point_step) if self._point_step else cloud
        self._write_cloud(topics.POINTS_TOPIC, cloud, frame.stamp, lidar_frame)
        for view in frame.views:
            self._write_view(view, encoded.get(view.name))
        if frame.labels is not None:
            certain = np.ones(len(points), np.float32)
            truth = encode_labelled(points, frame.labels, certain, self._palette, frame.intensity)
            self._write_cloud(topics.TRUTH_TOPIC, truth, frame.stamp, lidar_frame)

    def write_static(self, views: tuple[View, ...], *, lidar_frame: str = "lidar", stamp: int | None = None) -> None:
        """The extrinsics of those views' cameras, once each; `write_frame` sees to this by itself.

        Raises ValueError where a camera has moved: /tf_static cannot say that.
        """
        for view in views:
            known = self._static.get(view.name)
            if known is not None and not np.allclose(known, view.camera_from_lidar, atol=1e-9):
                raise ValueError(f"camera {view.name!r} has moved on its rig at stamp {view.stamp}: /tf_static holds "
                                 "one camera_from_lidar for each camera")
        new = [view for view in views if view.name not in self._static]
        if not new:
            return
        stamp = min(_stamps(new)) if stamp is None else stamp
        transforms = [
            self._transform(lidar_frame, optical_frame(view.name), inverse(view.camera_from_lidar), stamp)
            for view in new
        ]
        self._static |= {view.name: view.camera_from_lidar for view in new}
        message = self._make(topics.TRANSFORMS, transforms=transforms)
        self.write(topics.STATIC_TOPIC, topics.TRANSFORMS, message, stamp)

    def write_pose(self, pose: np.ndarray, stamp: int, *, fixed_frame: str = "odom", lidar_frame: str = "lidar"):
        """Where the LiDAR was, as odometry tells it on /tf. pose: (4, 4), fixed frame from LiDAR."""
        message = self._make(topics.TRANSFORMS, transforms=[self._transform(fixed_frame, lidar_frame, pose, stamp)])
        self.write(topics.MOVING_TOPIC, topics.TRANSFORMS, message, stamp)

    def _write_cloud(self, topic: str, cloud: CloudBytes, stamp: int, frame_id: str) -> None:
        message = self._make(
            topics.CLOUD,
            header=self._header(stamp, frame_id),
            height=1,
            width=cloud.width,
            fields=[
                self._make("sensor_msgs/msg/PointField", name=name, offset=offset, datatype=datatype, count=count)
                for name, offset, datatype, count in cloud.fields
            ],
            is_bigendian=False,
            point_step=cloud.point_step,
            row_step=cloud.point_step * cloud.width,
            data=cloud.data,
            is_dense=False,  # points that are not finite keep their place
        )
        self.write(topic, topics.CLOUD, message, stamp)

    def _write_view(self, view: View, encoded: bytes | None) -> None:
        height, width = view.image.shape[:2]
        if view.image.dtype != np.uint8 or view.image.shape != (view.camera.height, view.camera.width, 3):
            raise ValueError(f"image of camera {view.name!r} is {view.image.dtype} {view.image.shape}, expected uint8 "
                             f"({view.camera.height}, {view.camera.width}, 3) as its camera model says")
        header = self._header(view.stamp, optical_frame(view.name))
        if encoded is None:
            image = self._make(
                topics.IMAGE,
                header=header,
                height=height,
                width=width,
                encoding="rgb8",
                is_bigendian=0,
                step=3 * width,
                data=np.ascontiguousarray(view.image).reshape(-1),
            )
            self.write(f"/{view.name}/image", topics.IMAGE, image, view.stamp)
        else:
            kind = "jpeg" if encoded.startswith(JPEG) else "png"
            image = self._make(topics.COMPRESSED, header=header, format=kind, data=np.frombuffer(encoded, np.uint8))
            self.write(f"/{view.name}/image/compressed", topics.COMPRESSED, image, view.stamp)
        model, fields = self._infos.get(view.name, (None, None))
        if model is not view.camera:
            fields = self._info_fields(view)
            self._infos[view.name] = view.camera, fields
        info = self._make(topics.CAMERA_INFO, header=header, **fields)
        self.write(f"/{view.name}/camera_info", topics.CAMERA_INFO, info, view.stamp)

    def _info_fields(self, view: View) -> dict:
        matrix = np.asarray(view.camera.matrix, np.float64)
        return {
            "height": view.camera.height,
            "width": view.camera.width,
            "distortion_model": view.camera.distortion_model,
            "d": np.array(view.camera.distortion, np.float64),
            "k": matrix.reshape(-1),
            "r": np.eye(3).reshape(-1),
            "p": np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
            "binning_x": 0,
            "binning_y": 0,
            "roi": self._make(
                "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
            ),
        }

    def _transform(self, parent: str, child: str, parent_from_child: np.ndarray, stamp: int):
        x, y, z = parent_from_child[:3, 3].tolist()
        qx, qy, qz, qw = Rotation.from_matrix(parent_from_child[:3, :3]).as_quat().tolist()
        return self._make(
            "geometry_msgs/msg/TransformStamped",
            header=self._header(stamp, parent),
            child_frame_id=child,
            transform=self._make(
                "geometry_msgs/msg/Transform",
                translation=self._make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
                rotation=self._make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
            ),
        )

    def _header(self, stamp: int, frame_id: str):
        sec, nanosec = split(stamp)
        time = self._make("builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
        return self._make("std_msgs/msg/Header", stamp=time, frame_id=frame_id)

    def _make(self, msgtype: str, **fields):
        return self._types.types[msgtype](**fields)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """As `naming`, for SQLite's errors, too."""
    try:
        with naming(path):
            yield
    except sqlite3.Error as error:
        raise Unwritable(f"{path} cannot be written ({error}): {FREE_SPACE}") from error


def optical_frame(camera: str) -> str:
    """The frame of a camera's images: x right, y down, z forward."""
    return f"{camera}_optical"


def _stamps(views) -> list[int]:
    return [view.stamp for view in views]
