"""The standard message definitions, for reading and writing serialised messages without ROS."""

from __future__ import annotations

from functools import cache


@cache
def standard_types():
    """A rosbags type store that is shared, because making one costs 0.1 s; register nothing in it.

    Its definitions are those of Humble, the oldest distribution supported; sensor messages have not changed since.
    """
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_HUMBLE)
