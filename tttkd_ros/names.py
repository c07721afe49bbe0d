"""Names in ROS: coordinate frames, cameras and their topics (of image_transport)."""

from __future__ import annotations

import re
from collections.abc import Collection

_RECTIFIED = re.compile(r"(?<![a-z])rect")  # image_rect, image_rect_color, left_rectified; not image_corrected


def without_slash(frame: str) -> str:
    """A frame without its leading slash: drivers from ROS 1 still write one, and tf2 rejects it."""
    return frame.removeprefix("/")


def resolve_frame(frame: str, known: Collection[str]) -> str:
    """The name of a message's frame in TF, which knows the frames `known`; `frame` itself if none matches.

    "robot1/lidar" matches "lidar", and vice versa, if no other frame does. Raises ValueError if several match.
    """
    frame = without_slash(frame)
    if not frame or frame in known:
        return frame
    matches = sorted(name for name in known if name.endswith(f"/{frame}") or frame.endswith(f"/{name}"))
    if len(matches) > 1:
        raise ValueError(f"frame {frame!r} could be any of {', '.join(matches)} in TF: publish with the full frame id")
    return matches[0] if matches else frame


def base_topic(image_topic: str) -> str:
    """The topic without the transport's suffix: /front/image_raw of /front/image_raw/compressed."""
    return image_topic.removesuffix("/compressed")


def camera_name(image_topic: str) -> str:
    """The namespace of an image topic without its leading slash; in the root namespace the topic's own name."""
    namespace, _, last = base_topic(image_topic).strip("/").rpartition("/")
    return namespace or last


def info_topic(image_topic: str) -> str:
    """The CameraInfo topic of an image topic."""
    return base_topic(image_topic).rpartition("/")[0] + "/camera_info"


def is_rectified(image_topic: str) -> bool:
    """Whether the last part of the topic's name says that the images are rectified, as image_proc names them."""
    return _RECTIFIED.search(base_topic(image_topic).rpartition("/")[2].lower()) is not None


def parse_camera(text: str) -> tuple[str, str | None]:
    """A camera as a user writes it -> its name, and its image topic if the user wrote that.

    "/front" and "front" name the camera "front". "/front/image_raw" and "front/image_raw" name it too, and its topic.
    """
    topic = base_topic(text.strip("/"))
    if "/" in topic and "image" in topic.rpartition("/")[2]:
        return camera_name(topic), f"/{topic}"
    return topic, None
