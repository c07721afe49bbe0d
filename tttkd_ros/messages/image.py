"""Image and CompressedImage to RGB arrays, without ROS: any object with the message's attributes serves."""

from __future__ import annotations

import struct

import cv2
import numpy as np

from tttkd_ros.messages.encodings import DEPTH, PIXEL_BYTES, PLANES, UNORDERED, colour_encoding, to_rgb
from tttkd_ros.messages.transports import explain_format

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
# The segments with a JPEG's size; those left out are tables and an extension. The scan holds the pixels.
JPEG_FRAMES = set(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
JPEG_SCAN, JPEG_END = 0xFFDA, b"\xff\xd9"
MAX_MARKERS = 10_000  # of a JPEG, fill bytes included, that are searched for its size
# The camera model holds for the pixels as they are stored, so an EXIF orientation must not rotate them.
AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION


def image_size(msg) -> tuple[int, int]:
    """Width and height of an Image or CompressedImage in pixels, by its header. Raises ValueError if it is damaged."""
    return _read_header(msg)[:2] if hasattr(msg, "format") else (int(msg.width), int(msg.height))


def decode_image(msg, *, channel_order: str = "refuse", max_pixels: int = 2**26) -> np.ndarray:
    """Decode an Image, or a CompressedImage (which has a `format`), to (H, W, 3) uint8 RGB, C-contiguous and writable.

    channel_order: "bgr" or "rgb" for encodings that do not specify it (8UC3 and others); "refuse" rejects them.
    Raises ValueError for an unknown encoding, depth, a size that is zero, too large or does not fit the data, and data
    that are damaged or of another codec.
    """
    if hasattr(msg, "format"):
        image = to_rgb(*_decompress(msg, channel_order, max_pixels))
    else:
        pixels, encoding = _unpack(msg, channel_order, max_pixels)
        image = to_rgb(pixels, encoding)
        if image.shape != (msg.height, msg.width, 3):
            raise ValueError(f"{encoding} image of {msg.width}x{msg.height} became {image.shape}: that size does not "
                             "suit it")
    return np.require(image, np.uint8, ["C", "W"])


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(f"image is {width}x{height}, expected at most {max_pixels} pixels")


def _unpack(msg, channel_order: str, max_pixels: int) -> tuple[np.ndarray, str]:
    """Pixels and encoding of an Image, as `to_rgb` takes them."""
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    encoding = colour_encoding(msg.encoding, channel_order)
    if height < 1 or width < 1:
        raise ValueError(f"image is {width}x{height}, expected at least one pixel")
    rows, row = int(height * PLANES.get(encoding, 1)), width * PIXEL_BYTES[encoding]
    size = len(msg.data)
    if size == rows * row:
        step = row  # the data have no padding, so a wrong step does no harm
    if step < row:
        raise ValueError(f"image step is {step}, expected at least {row} ({width} pixels of {PIXEL_BYTES[encoding]} "
                         "bytes)")
    if size < rows * step:
        raise ValueError(f"image data hold {size} bytes, expected {rows * step} ({rows} rows of {step})")
    _check_size(width, height, max_pixels)
    data = np.frombuffer(msg.data, np.uint8, rows * step)
    if encoding == "nv24":  # its chroma rows are twice as long as its luma rows
        luma, chroma = data[: height * step].reshape(height, -1), data[height * step :].reshape(height, -1)
        data = np.concatenate([luma[:, :row], chroma[:, : 2 * row].reshape(-1, row)])
    else:
        data = data.reshape(rows, step)[:, :row]
    if encoding.endswith("16"):
        data = np.ascontiguousarray(data).view(">u2" if msg.is_bigendian else "<u2").astype(np.uint16, copy=False)
    return data if data.shape[1] == width else data.reshape(rows, width, -1), encoding


def _decompress(msg, channel_order: str, max_pixels: int) -> tuple[np.ndarray, str]:
    """Pixels and encoding of a CompressedImage, as `to_rgb` takes them.

    compressed_image_transport writes the format "<encoding>; jpeg compressed <target>"; others write the codec alone.
    """
    original, separator, codec = msg.format.partition(";")
    original = original.strip().lower() if separator else ""
    target = codec.rpartition("compressed")[2].strip()
    width, height, scan = _read_header(msg)
    if DEPTH.fullmatch(original):
        colour_encoding(original)  # raises
    _check_size(width, height, max_pixels)
    pixels = _decode(msg, scan)
    bits = 8 * pixels.itemsize
    if pixels.ndim == 3:
        # The transport stores a PNG of unordered channels as they are.
        if UNORDERED.fullmatch(original) and not target:
            return pixels, f"{colour_encoding(original, channel_order)[:3]}{bits}"
        return pixels, f"bgr{bits}"
    # A Bayer image is stored as its mosaic, except that the transport makes a JPEG "compressed mono8" grey.
    if original.startswith("bayer_") and not target.startswith("mono"):
        return pixels, colour_encoding(original.rstrip("0123456789") + str(bits))
    if bits == 16 and not original:
        raise ValueError(f"compressed image ({msg.format!r}) has one channel of 16 bits, grey or depth: expected a "
                         "format with its encoding, as 'mono16; png compressed'")
    return pixels, f"mono{bits}"


def _read_header(msg) -> tuple[int, int, int]:
    """Width and height of a JPEG or PNG, and the byte at which a JPEG's scan begins (0 for a PNG).

    OpenCV allocates memory for the size in a damaged header, and decodes a JPEG with damaged tables.
    """
    data = memoryview(msg.data)
    if (data[:2] != JPEG and data[:8] != PNG) or "compresseddepth" in msg.format.lower():
        raise ValueError(explain_format(msg.format, bytes(data)))
    width = height = scan = 0
    try:
        if data[:8] == PNG and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
        position = 2 if data[:2] == JPEG else len(data)
        for _ in range(MAX_MARKERS):
            marker, length = struct.unpack_from(">HH", data, position)
            if marker in JPEG_FRAMES:
                height, width = struct.unpack_from(">HH", data, position + 5)
            if marker < 0xFF00 or marker == JPEG_SCAN:
                scan = position * (marker == JPEG_SCAN)
                break
            position += 1 if marker == 0xFFFF else 2 + length  # any number of 0xFF may precede a marker
    except struct.error:  # the data end within the header
        pass
    if not width * height or (data[:2] == JPEG and not scan):
        raise _undecodable(msg, "damaged or cut short")
    return width, height, scan


def _decode(msg, scan: int) -> np.ndarray:
    """The pixels of a JPEG or PNG as they are stored, (H, W) or (H, W, 3) BGR, uint8 or uint16."""
    data = bytes(msg.data)
    # Some decoders fill the rest of a cut JPEG with grey. The end marker cannot occur within a scan.
    if scan and data.rfind(JPEG_END, scan) < 0:
        raise _undecodable(msg, "cut short, its JPEG has no end")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), AS_STORED)
    except cv2.error as error:
        raise _undecodable(msg, str(error)) from error
    if pixels is None:
        raise _undecodable(msg, "damaged or cut short")
    return pixels


def _undecodable(msg, reason: str) -> ValueError:
    return ValueError(f"compressed image ({msg.format!r}, {len(msg.data)} bytes) cannot be decoded: {reason}")
