"""Livox's CustomMsg, from the serialised message to the parts of a PointCloud2: no Livox package is needed."""

from __future__ import annotations

import array
import re
import struct
from types import SimpleNamespace

from tttkd_ros.messages.point_cloud import FLOAT32, UINT8, UINT32, Field

# livox_ros_driver2, livox_ros2_driver (package livox_interfaces) and livox_ros_driver share one layout.
TYPE = re.compile(r"livox_(ros_driver2?|ros2_driver|interfaces2?)/(msg/)?CustomMsg")
POINT_BYTES = 20  # from one CustomPoint to the next; the last one lacks the byte of padding
LAYOUT = {"offset_time": (0, UINT32), "x": (4, FLOAT32), "y": (8, FLOAT32), "z": (12, FLOAT32),
          "intensity": (16, UINT8), "tag": (17, UINT8), "line": (18, UINT8)}
FIELDS = tuple(Field(name, offset, datatype, 1) for name, (offset, datatype) in LAYOUT.items())


def is_livox(kind: str) -> bool:
    """Whether a message type, with or without `/msg`, is Livox's CustomMsg."""
    return TYPE.fullmatch(kind) is not None


def decode_livox(cdr: bytes) -> SimpleNamespace:
    """A serialised CustomMsg as an object with the attributes of a PointCloud2. Raises ValueError for other bytes.

    Its points keep CustomPoint's layout, with reflectivity as the intensity. offset_time counts in ns from the stamp.
    """
    try:
        order = "<" if cdr[1] & 1 else ">"
        sec, nanosec, length = struct.unpack_from(f"{order}iII", cdr, 4)
        frame_id = bytes(cdr[16 : 16 + length]).rstrip(b"\0").decode()
        # Alignment counts from the end of the four bytes of encapsulation. Then come timebase (8 bytes), point_num (4),
        # lidar_id and rsvd (4), and the number of points in the sequence.
        start = 4 + (12 + length + 7) // 8 * 8
        (size,) = struct.unpack_from(f"{order}16xI", cdr, start)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(f"{len(cdr)} bytes are no serialised CustomMsg of Livox's: {error}") from error
    points = cdr[start + 20 : start + 20 + size * POINT_BYTES]
    if len(points) < size * POINT_BYTES - 1:
        raise ValueError(f"CustomMsg of Livox's holds {len(points)} bytes of points, expected {size * POINT_BYTES - 1} "
                         f"({size} points of {POINT_BYTES})")
    data = array.array("B", points)
    data.extend(bytes(size * POINT_BYTES - len(data)))
    header = SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id=frame_id)
    return SimpleNamespace(header=header, is_bigendian=order == ">", width=size, height=1, fields=FIELDS,
                           point_step=POINT_BYTES, row_step=size * POINT_BYTES, is_dense=True, data=data)
