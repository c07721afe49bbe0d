"""Writes frames to a rosbag2 bag, without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from scipy.spatial.transform import Rotation

from tttkd_ros.bags import topics
from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.files import naming
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.cloud_encoding import CloudBytes, encode_labelled, encode_points
from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.point_times import with_times
from tttkd_ros.messages.stamps import SECOND, split

METADATA_VERSION = 8  # Humble's rosbag2 does not read the QoS profiles of version 9
JPEG = b"\xff\xd8\xff"  # start of a JPEG file
LABEL_INFO_TOPIC = topics.label_info_topic(topics.TRUTH_TOPIC)
NO_LIMIT = QosTime(0, 0)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, NO_LIMIT, NO_LIMIT,
    QosLiveliness.SYSTEM_DEFAULT, NO_LIMIT, False,
)  # fmt: skip


class BagWriter:
    """Writes one bag; use it in a `with` statement. storage: "mcap" or "sqlite3".

    The folder `path` appears only when the bag is complete; until then it is in a hidden one, which an exception
    removes. An existing `path` raises ValueError, unless it is a bag to `overwrite`. A full disk raises Unwritable.

    point_step: bytes of each point of a sweep; 0 for what its fields take. class_set: the one whose ids the labels are.
    """

    def __init__(
        self, path: Path | str, *, storage: str = "mcap", overwrite: bool = False, point_step: int = 0,
        class_set: ClassSet = OUTDOOR,
    ):
        self.path, self._class_set = Path(path), class_set
        if self.path.exists() and not overwrite:
            raise ValueError(f"{self.path} exists: choose another name, or remove it")
        if self.path.exists() and not (self.path / "metadata.yaml").is_file():
            raise ValueError(f"{self.path} is no bag (no metadata.yaml in it) and is not replaced: choose another name")
        self._storage, self._point_step = StoragePlugin[storage.upper()], point_step
        self._types = standard_types()
        self._connections = {}
        self._static: dict[str, np.ndarray] = {}  # camera -> camera_from_lidar

    def __enter__(self) -> BagWriter:
        with naming(self.path), ExitStack() as stack:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(prefix=f".{self.path.name}-", suffix=".partial", dir=self.path.parent)
            self._partial = Path(stack.enter_context(folder))
            out = self._partial / self.path.name
            self._writer = Writer(out, version=METADATA_VERSION, storage_plugin=self._storage).__enter__()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        with self._stack:
            # Finishing an incomplete bag may fail for the reason of the exception that is under way.
            with suppress(Exception) if kind else naming(self.path):
                self._writer.__exit__(kind, error, traceback)
            if kind is None:
                if self.path.exists():
                    self.path.rename(self._partial / f"{self.path.name}.replaced")
                (self._partial / self.path.name).rename(self.path)

    def write(self, topic: str, msgtype: str, msg, stamp_ns: int) -> None:
        """Write one message. msg: an object of rosbags' type, or the CDR bytes. stamp_ns: the recording time.

        Raises ValueError if the topic has another type, or ROS cannot represent the stamp.
        """
        if not 0 <= stamp_ns < 2**31 * SECOND:
            raise ValueError(f"stamp is {stamp_ns} ns, expected 0 to 2^31 s: ROS represents no other")
        if topic not in self._connections:
            qos = [LATCHED] if topic in (topics.STATIC_TOPIC, LABEL_INFO_TOPIC) else []
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, typestore=self._types, offered_qos_profiles=qos
            )
        connection = self._connections[topic]
        if connection.msgtype != msgtype:
            raise ValueError(f"topic {topic} holds {connection.msgtype}, expected no {msgtype} there")
        data = msg if isinstance(msg, (bytes, bytearray, memoryview)) else self._types.serialize_cdr(msg, msgtype)
        with naming(self.path):
            self._writer.write(connection, stamp_ns, data)

    def write_frame(
        self, frame: Frame, *, lidar_frame: str = "lidar", encoded: Mapping[str, bytes] = MappingProxyType({})
    ) -> None:
        """Write a sweep, its views and, if it has labels, its truth, each recorded at its own stamp.

        The first truth comes with the class set's `label_info`.

        encoded: camera -> the PNG or JPEG file of its view's image, to be written in place of the pixels.
        """
        first = min([frame.stamp, *(view.stamp for view in frame.views)])
        self.write_static(frame.views, lidar_frame=lidar_frame, stamp=first)
        points = np.asarray(frame.points, np.float32)
        cloud = encode_points(points, frame.intensity)
        cloud = cloud if frame.times is None else with_times(cloud, frame.times)
        cloud = cloud.padded(self._point_step) if self._point_step else cloud
        self._write_cloud(topics.POINTS_TOPIC, cloud, frame.stamp, lidar_frame)
        for view in frame.views:
            self._write_view(view, encoded.get(view.name))
        if frame.labels is not None:
            confidence = np.ones(len(points), np.float32)
            truth = encode_labelled(points, frame.labels, confidence, self._class_set.palette, frame.intensity)
            if LABEL_INFO_TOPIC not in self._connections:
                info = self._make(topics.TEXT, self._class_set.label_info)
                self.write(LABEL_INFO_TOPIC, topics.TEXT, info, frame.stamp)
            self._write_cloud(topics.TRUTH_TOPIC, truth, frame.stamp, lidar_frame)

    def write_static(self, views: tuple[View, ...], *, lidar_frame: str = "lidar", stamp: int | None = None) -> None:
        """Write the extrinsics of the views' cameras to /tf_static, once each; `write_frame` calls this.

        Raises ValueError if a camera has moved since its extrinsics were written.
        """
        for view in views:
            known = self._static.get(view.name)
            if known is not None and not np.allclose(known, view.camera_from_lidar, atol=1e-9):
                raise ValueError(f"camera {view.name!r} has moved on its rig at stamp {view.stamp}: /tf_static holds "
                                 "one camera_from_lidar for each camera")
        new = {view.name: view.camera_from_lidar for view in views if view.name not in self._static}
        if new:
            stamp = min(view.stamp for view in views if view.name in new) if stamp is None else stamp
            links = {f"{name}_optical": inverse(matrix) for name, matrix in new.items()}
            self._write_transforms(topics.STATIC_TOPIC, lidar_frame, links, stamp)
            self._static |= new

    def write_pose(self, pose: np.ndarray, stamp: int, *, lidar_frame: str = "lidar") -> None:
        """Write a pose of the LiDAR in `odom` to /tf, as odometry publishes it. pose: (4, 4), odom from LiDAR."""
        self._write_transforms(topics.MOVING_TOPIC, "odom", {lidar_frame: pose}, stamp)

    def _write_cloud(self, topic: str, cloud: CloudBytes, stamp: int, frame_id: str) -> None:
        fields = [self._make("sensor_msgs/msg/PointField", *field) for field in cloud.fields]
        message = self._make(
            topics.CLOUD, header=self._header(stamp, frame_id), height=1, width=cloud.width, fields=fields,
            is_bigendian=False, point_step=cloud.point_step, row_step=cloud.point_step * cloud.width, data=cloud.data,
            is_dense=False,  # some points may not be finite
        )  # fmt: skip
        self.write(topic, topics.CLOUD, message, stamp)

    def _write_view(self, view: View, encoded: bytes | None) -> None:
        height, width = view.image.shape[:2]
        if view.image.dtype != np.uint8 or view.image.shape != (view.camera.height, view.camera.width, 3):
            raise ValueError(f"image of camera {view.name!r} is {view.image.dtype} {view.image.shape}, expected uint8 "
                             f"({view.camera.height}, {view.camera.width}, 3) as its camera model says")
        header = self._header(view.stamp, f"{view.name}_optical")
        if encoded is None:
            image = self._make(
                topics.IMAGE, header=header, height=height, width=width, encoding="rgb8", is_bigendian=0,
                step=3 * width, data=np.ascontiguousarray(view.image).reshape(-1),
            )  # fmt: skip
            self.write(f"/{view.name}/image", topics.IMAGE, image, view.stamp)
        else:
            kind = "jpeg" if encoded.startswith(JPEG) else "png"
            image = self._make(topics.COMPRESSED, header, kind, np.frombuffer(encoded, np.uint8))
            self.write(f"/{view.name}/image/compressed", topics.COMPRESSED, image, view.stamp)
        matrix = np.asarray(view.camera.matrix, np.float64)
        info = self._make(
            topics.CAMERA_INFO, header=header, height=height, width=width, binning_x=0, binning_y=0,
            distortion_model=view.camera.distortion_model, d=np.array(view.camera.distortion, np.float64),
            k=matrix.reshape(-1), r=np.eye(3).reshape(-1), p=np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
            roi=self._make("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False),
        )  # fmt: skip
        self.write(f"/{view.name}/camera_info", topics.CAMERA_INFO, info, view.stamp)

    def _write_transforms(self, topic: str, parent: str, links: Mapping[str, np.ndarray], stamp: int) -> None:
        """links: child frame -> parent_from_child (4, 4)."""
        header, transforms = self._header(stamp, parent), []
        for child, matrix in links.items():
            move = self._make("geometry_msgs/msg/Vector3", *matrix[:3, 3].tolist())
            quaternion = Rotation.from_matrix(matrix[:3, :3]).as_quat().tolist()
            rotation = self._make("geometry_msgs/msg/Quaternion", *quaternion)
            transform = self._make("geometry_msgs/msg/Transform", move, rotation)
            transforms.append(self._make("geometry_msgs/msg/TransformStamped", header, child, transform))
        self.write(topic, topics.TRANSFORMS, self._make(topics.TRANSFORMS, transforms), stamp)

    def _header(self, stamp: int, frame_id: str):
        return self._make("std_msgs/msg/Header", self._make("builtin_interfaces/msg/Time", *split(stamp)), frame_id)

    def _make(self, msgtype: str, *values, **fields):
        return self._types.types[msgtype](*values, **fields)
