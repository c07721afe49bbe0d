"""Which cameras the node learns from, and the topics on which it listens to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from rclpy.node import Node

from tttkd_ros.geometry.rig import RigCamera
from tttkd_ros.names import info_topic
from tttkd_ros.ros.settings import AUTO, Settings

DEFAULT = ("camera_front",)


class CameraTopics(NamedTuple):
    """Resolved names. image: with the transport's suffix, as it is subscribed to."""

    image: str
    info: str


def with_cameras(settings: Settings, rig: Mapping[str, RigCamera] | None) -> Settings:
    """The settings with `cameras` as names. Raises ValueError if matching.offsets does not fit their number."""
    return settings if settings.cameras != (AUTO,) else replace(settings, cameras=tuple(rig) if rig else DEFAULT)


def image_topic(camera: str, rig: Mapping[str, RigCamera] | None) -> str:
    """Without the transport's suffix: that of the camera's entry in the rig, if it names one."""
    entry = (rig or {}).get(camera)
    return entry.topic if entry is not None and entry.topic is not None else f"{camera}/image"


def camera_topics(node: Node, settings: Settings, rig: Mapping[str, RigCamera] | None) -> dict[str, CameraTopics]:
    """Camera -> its topics. A remapping of <camera>/image or <camera>/camera_info goes before what the rig names."""
    suffix = "" if settings.image_transport == "raw" else "/compressed"
    found = {}
    for camera in settings.cameras:
        named = image_topic(camera, rig)
        found[camera] = CameraTopics(
            _resolved(node, f"{camera}/image{suffix}", f"{named}{suffix}"),
            _resolved(node, f"{camera}/camera_info", info_topic(named)),
        )
    return found


def _resolved(node: Node, usual: str, named: str) -> str:
    remapped = node.resolve_topic_name(usual)
    return node.resolve_topic_name(named) if remapped == node.resolve_topic_name(usual, only_expand=True) else remapped
