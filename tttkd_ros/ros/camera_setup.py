"""The node's cameras: their names, their topics, and where their extrinsics come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from rclpy.node import Node

from tttkd_ros.geometry.rig import RigCamera, match_cameras
from tttkd_ros.names import info_topic
from tttkd_ros.ros.settings import AUTO, Settings
from tttkd_ros.ros.tf_lookup import TfTransforms

DEFAULT_CAMERAS = ("camera_front",)
Rig = Mapping[str, RigCamera]


class CameraTopics(NamedTuple):
    """Resolved names. image: with the transport's suffix, as the node subscribes to it."""

    image: str
    info: str


def with_cameras(settings: Settings, rig: Rig | None) -> Settings:
    """Replace the cameras [auto] by the rig's. Raises ValueError if matching.offsets does not fit their number."""
    if settings.cameras != (AUTO,):
        return settings
    return replace(settings, cameras=tuple(rig) if rig else DEFAULT_CAMERAS)


def resolve_camera_topics(node: Node, settings: Settings, rig: Rig | None) -> dict[str, CameraTopics]:
    """Find each camera's topics. A remapping of <camera>/image or <camera>/camera_info takes precedence over the image
    topics of the rig."""
    suffix = "" if settings.image_transport == "raw" else "/compressed"

    def resolved(default: str, named: str) -> str:
        topic = node.resolve_topic_name(default)
        is_remapped = topic != node.resolve_topic_name(default, only_expand=True)
        return topic if is_remapped else node.resolve_topic_name(named)

    found = {}
    for camera in settings.cameras:
        entry = (rig or {}).get(camera)
        image = (entry and entry.topic) or f"{camera}/image"
        found[camera] = CameraTopics(
            resolved(f"{camera}/image{suffix}", f"{image}{suffix}"),
            resolved(f"{camera}/camera_info", info_topic(image)),
        )
    return found


class RigExtrinsics:
    """Extrinsics from a rig file, by the node's names of the cameras."""

    def __init__(self, rig: Rig):
        self._rig = rig

    def rig(self, camera: str) -> RigCamera:
        return self._rig[camera]


def choose_extrinsics(image_topics: Mapping[str, str], rig: Rig | None, buffer) -> RigExtrinsics | TfTransforms:
    """Take the extrinsics from the rig file if there is one, else from TF's buffer (tf2_ros.Buffer).

    Raises ValueError if the rig lacks a camera, or if there is neither a rig nor a buffer.
    """
    if rig is not None:
        entries, _ = match_cameras(rig, image_topics)
        missing = [f"{camera} ({topic})" for camera, topic in image_topics.items() if camera not in entries]
        if missing:
            raise ValueError(f"the rig has no camera {', '.join(missing)}; it has {', '.join(rig) or 'none'}: correct "
                             "the parameter 'cameras', rename the rig's entry, or give the entry its topic")
        return RigExtrinsics({camera: rig[entry] for camera, entry in entries.items()})
    if not image_topics:
        return RigExtrinsics({})
    if buffer is None:
        raise ValueError(
            "no rig file given (parameter 'rig'), and this ROS has no tf2_ros to look up transforms; name a rig "
            "file such as config/rigs/kitti.yaml, or set cameras to [''] to segment only"
        )
    return TfTransforms(buffer)
