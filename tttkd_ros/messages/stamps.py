"""The header of a message: its stamp as integer nanoseconds, and its frame id."""

from __future__ import annotations

import struct

SECOND = 1_000_000_000  # nanoseconds


def nanoseconds(stamp) -> int:
    """builtin_interfaces/Time to nanoseconds."""
    return int(stamp.sec) * SECOND + int(stamp.nanosec)


def split(stamp: int) -> tuple[int, int]:
    """Nanoseconds to (sec, nanosec) of builtin_interfaces/Time."""
    return divmod(stamp, SECOND)


def stamp_of_raw(cdr: bytes) -> int:
    """The stamp in nanoseconds of a serialised message with a header. Raises ValueError if it is too short."""
    if len(cdr) < 12:
        raise ValueError(f"serialised message holds {len(cdr)} bytes, expected at least the 12 up to its stamp")
    sec, nanosec = struct.unpack_from(f"{_byte_order(cdr)}iI", cdr, 4)
    return sec * SECOND + nanosec


def frame_id_of_raw(cdr: bytes) -> str:
    """The frame id of a serialised message with a header. Raises ValueError if it is too short, or not UTF-8."""
    size = struct.unpack_from(f"{_byte_order(cdr)}I", cdr, 12)[0] if len(cdr) >= 16 else len(cdr)
    if 16 + size > len(cdr):
        raise ValueError(f"serialised message holds {len(cdr)} bytes, expected at least those up to its frame id")
    return bytes(cdr[16 : 16 + size]).rstrip(b"\0").decode()


def _byte_order(cdr: bytes) -> str:
    """CDR starts with four bytes of encapsulation. The lowest bit of the second one is the byte order."""
    return "<" if cdr[1] & 1 else ">"
