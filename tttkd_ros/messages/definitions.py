"""Message definitions: the standard ones, which need no ROS, and the classes that this ROS has."""

from __future__ import annotations

import importlib
import re
from functools import cache


@cache
def standard_types():
    """A rosbags type store that is shared, because making one costs 0.1 s; register nothing in it.

    Its definitions are those of Humble, the oldest distribution supported; sensor messages have not changed since.
    """
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)


def deserialise(cdr: bytes, type_name: str):
    """An object with the fields of the ROS type; its arrays of numbers are read-only views of `cdr`, not copies.

    type_name: as "sensor_msgs/msg/Image". Raises ValueError for bytes that are no such message.
    """
    from rosbags.serde import SerdeError

    try:
        return standard_types().deserialize_cdr(memoryview(cdr), type_name)
    # Beside its own error the parser lets out whatever slicing and unpacking short data raises, asserts included.
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
