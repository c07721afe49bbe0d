"""Message stamps as integer nanoseconds."""

from __future__ import annotations

import struct

SECOND = 1_000_000_000


def nanoseconds(stamp) -> int:
    """builtin_interfaces/Time to nanoseconds."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def split(stamp: int) -> tuple[int, int]:
    """Nanoseconds to (sec, nanosec) of builtin_interfaces/Time."""
    return divmod(stamp, SECOND)


def stamp_of_raw(cdr: bytes) -> int:
    """Nanoseconds in the header of a serialised message whose first member is a std_msgs/Header.

    Four bytes say how the message is encoded, the second one's lowest bit being the byte order; the stamp follows.
    Raises ValueError where the message is too short for one.
    """
    if len(cdr) < 12:
        raise ValueError(f"serialised message holds {len(cdr)} bytes, expected at least the 12 up to its stamp")
    sec, nanosec = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return sec * SECOND + nanosec
