"""The names of coordinate frames in messages and in TF."""

from __future__ import annotations

import struct
from collections.abc import Collection


def plain(frame: str) -> str:
    """Without the first slash: ROS 1 habits survive in drivers, and tf2 takes no such name."""
    return frame.removeprefix("/")


def known_as(frame: str, known: Collection[str]) -> str:
    """What TF calls a message's frame. known: the frames in TF.

    A tf prefix may stand in TF and not in the message, or the other way round: "robot1/lidar" is "lidar" if no other
    frame could be. A frame that is not known at all is returned as it is. Raises ValueError if several could be meant.
    """
    frame = plain(frame)
    if not frame or frame in known:
        return frame
    alike = sorted(name for name in known if name.endswith(f"/{frame}") or frame.endswith(f"/{name}"))
    if len(alike) > 1:
        raise ValueError(f"frame {frame!r} could be any of {', '.join(alike)} in TF: publish with the full frame id")
    return alike[0] if alike else frame


def frame_id_of_raw(cdr: bytes) -> str:
    """The frame id in the header of a serialised message, as `stamps.stamp_of_raw` finds its stamp.

    Raises ValueError if the message is too short for one, or the frame id is no text.
    """
    order = "<" if len(cdr) > 1 and cdr[1] & 1 else ">"
    size = struct.unpack_from(f"{order}I", cdr, 12)[0] if len(cdr) >= 16 else len(cdr)
    if 16 + size > len(cdr):
        raise ValueError(f"serialised message holds {len(cdr)} bytes, expected at least those up to its frame id")
    return bytes(cdr[16 : 16 + size]).rstrip(b"\0").decode()
