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
