"""CompressedImage to pixels and their encoding: what its JPEG or PNG holds, and what its `format` says of that."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from tttkd_ros.messages.encodings import DEPTH, UNORDERED, colour_encoding
from tttkd_ros.messages.transports import undecoded_format

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# Markers of the segment with a JPEG's size; those left out (tables, an extension) look like them.
JPEG_FRAMES = set(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
JPEG_BODY = 0xFFDA
MAX_MARKERS = 10_000  # looked at, fill bytes included, before a JPEG's size is given up
JPEG_END = b"\xff\xd9"
# Pixels must stay where the camera model expects them, whatever an EXIF tag says of the camera's attitude.
AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION


def decompress(msg, channel_order: str, max_pixels: int) -> tuple[np.ndarray, str]:
    """Pixels (H, W) or (H, W, 3), uint8 or uint16, and their encoding, for `to_rgb`. Arguments as for `decode_image`.

    `format` is what compressed_image_transport writes, "<encoding>; jpeg compressed <target>", or a codec alone.
    Raises ValueError as `decode_image`.
    """
    original, separator, codec = msg.format.partition(";")
    original = original.strip().lower() if separator else ""
    target = codec.rpartition("compressed")[2].strip()
    data = bytes(msg.data)
    if not data.startswith((JPEG, PNG)) or "compresseddepth" in msg.format.lower():
        raise ValueError(undecoded_format(msg.format, data))
    if DEPTH.fullmatch(original):
        colour_encoding(original)  # raises
    pixels = _decode(msg.format, data, max_pixels)
    bits = 8 * pixels.itemsize
    if pixels.ndim == 3:
        # The transport stores a PNG of unordered channels as they are.
        if UNORDERED.fullmatch(original) and not target:
            return pixels, f"{colour_encoding(original, channel_order)[:3]}{bits}"
        return pixels, f"bgr{bits}"
    # A Bayer image is stored as its mosaic, but for a JPEG "compressed mono8", which the transport has made grey.
    if original.startswith("bayer_") and not target.startswith("mono"):
        return pixels, colour_encoding(original.rstrip("0123456789") + str(bits))
    if bits == 16 and not original:
        raise ValueError(
            f"compressed image ({msg.format!r}) has one channel of 16 bits, grey or depth: expected a format that "
            "tells which, as 'mono16; png compressed'"
        )
    return pixels, f"mono{bits}"


def _decode(kind: str, data: bytes, max_pixels: int) -> np.ndarray:
    width, height, body = _header(memoryview(data))
    if width * height > max_pixels:
        raise ValueError(f"compressed image ({kind!r}) is {width}x{height}, expected at most {max_pixels} pixels")
    # Of a cut JPEG some decoders make a picture whose rest is grey. Within its body this marker cannot occur; before
    # it a thumbnail may have its own.
    if data.startswith(JPEG) and body and data.rfind(JPEG_END, body) < 0:
        raise ValueError(f"compressed image ({kind!r}, {len(data)} bytes) is cut short: its JPEG has no end")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), AS_STORED) if width * height else None
    except cv2.error as error:
        raise ValueError(f"compressed image ({kind!r}) cannot be decoded: {error}") from error
    if image is None:
        raise ValueError(f"compressed image ({kind!r}, {len(data)} bytes) cannot be decoded: damaged or cut short")
    return image


def announced_size(data) -> tuple[int, int]:
    """Width and height in the header of a PNG or JPEG, (0, 0) for anything else. data: any container of bytes."""
    return _header(memoryview(data))[:2]


def _header(data: memoryview) -> tuple[int, int, int]:
    """Width and height that a PNG or JPEG announces, (0, 0) if neither does, and where a JPEG's body starts, or 0.

    OpenCV takes memory for as many as a damaged header says before it looks any further, and fills it for a JPEG.
    """
    try:
        if data[:8] == PNG and data[12:16] == b"IHDR":
            return (*struct.unpack_from(">II", data, 16), 0)
        at, width, height = 2 if data[:2] == JPEG else len(data), 0, 0
        for _ in range(MAX_MARKERS):
            marker, length = struct.unpack_from(">HH", data, at)
            if marker in JPEG_FRAMES:
                height, width = struct.unpack_from(">HH", data, at + 5)
            if marker == JPEG_BODY:
                return width, height, at
            if marker < 0xFF00:
                return 0, 0, 0
            at += 1 if marker == 0xFFFF else 2 + length  # any number of 0xFF may stand before a marker
    except struct.error:
        pass
    return 0, 0, 0
