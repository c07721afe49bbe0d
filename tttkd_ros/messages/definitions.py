"""Message definitions: the standard ones, which need no ROS, and the classes that this ROS has."""

from __future__ import annotations

import importlib
import re
from functools import cache


@cache
def standard_types():
    """The shared rosbags type store with Humble's messages, whose sensor messages have not changed since."""
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def deserialise(cdr: bytes, type_name: str):
    """A message of a type such as "sensor_msgs/msg/Image"; arrays are views of `cdr`. Raises ValueError for others."""
    from rosbags.serde import SerdeError

    try:
        return standard_types().deserialize_cdr(memoryview(cdr), type_name)
    # For short data the parser also raises the errors of slicing and unpacking, and assertions.
    except (SerdeError, AssertionError, IndexError, UnicodeDecodeError, ValueError, OSError) as error:
        raise ValueError(f"{len(cdr)} bytes are no serialised {type_name}: {error}") from error


def message_class(type_name: str) -> type | None:
    """The class of "package/msg/Name", None if this ROS lacks it."""
    parts = re.fullmatch(r"([a-z]\w*)/msg/([A-Z]\w*)", type_name, re.ASCII)
    if parts is None:  # a bag may hold any text there, and a part of it is imported
        return None
    try:
        return getattr(importlib.import_module(f"{parts[1]}.msg"), parts[2], None)
    except ModuleNotFoundError:
        return None
