"""What the name of an image topic says: which camera it is, where its CameraInfo is, and whether it is rectified.

The conventions are image_transport's: a camera's topics share a namespace, its CameraInfo is `camera_info` there, and a
compressed image is on the topic of the image itself with `/compressed` behind it.
"""

from __future__ import annotations

import re

_RECTIFIED = re.compile(r"(?<![a-z])rect")  # image_rect, image_rect_color, left_rectified; not image_corrected


def base_topic(image_topic: str) -> str:
    """The topic without the transport's suffix: /front/image_raw of /front/image_raw/compressed."""
    return image_topic.removesuffix("/compressed")


def camera_name(image_topic: str) -> str:
    """The namespace of a camera's images, without the first slash; in the root namespace the topic's own name."""
    namespace, _, last = base_topic(image_topic).strip("/").rpartition("/")
    return namespace or last


def info_topic(image_topic: str) -> str:
    """The CameraInfo topic that belongs to an image topic."""
    return base_topic(image_topic).rpartition("/")[0] + "/camera_info"


def is_rectified(image_topic: str) -> bool:
    """Whether the images are rectified, by the last part of the topic's name, as image_proc and the drivers call it."""
    return _RECTIFIED.search(base_topic(image_topic).rpartition("/")[2].lower()) is not None


def split_name(name: str) -> tuple[str, str | None]:
    """What a user calls a camera -> its name, and its image topic if that is what the user wrote.

    "/front" and "front" name the camera "front"; "/front/image_raw" and "front/image_raw" do, too, and name its topic.
    """
    topic = base_topic(name.strip("/"))
    if "/" in topic and "image" in topic.rpartition("/")[2]:
        return camera_name(topic), f"/{topic}"
    return topic, None
