"""Image and CompressedImage to RGB arrays, without ROS: any object with the message's attributes serves."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import cv2
import numpy as np
from rosbags.image import ImageError, image_to_cvimage

from tttkd_ros.messages.definitions import deserialise

# Bytes from one pixel to the next, in the first plane, of the encodings that have a colour (or grey) meaning. "8UC3"
# and its like say nothing of the channel order, and depth images are no pictures.
PIXEL_BYTES = {
    "mono8": 1, "mono16": 2, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "rgb16": 6, "bgr16": 6, "rgba16": 8,
    "bgra16": 8, "uyvy": 2, "yuv422": 2, "yuyv": 2, "yuv422_yuy2": 2, "nv12": 1, "nv21": 1,
    **{f"bayer_{pattern}{bits}": bits // 8 for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)},
}  # fmt: skip
MOST_PIXELS = 2**26  # of a compressed image; of an uncompressed one the data must be there
# Markers of the segment with a JPEG's size; those left out (tables, an extension) look like them.
JPEG_FRAMES = set(range(0xFFC0, 0xFFD0)) - {0xFFC4, 0xFFC8, 0xFFCC}
MOST_MARKERS = 10_000  # looked at, fill bytes included, before a JPEG's size is given up
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def decode_image(msg) -> np.ndarray:
    """(H, W, 3) uint8 RGB, C-contiguous and writable, of an Image or a CompressedImage (which has a `format`).

    Raises ValueError for an unknown encoding, a size that is zero or does not fit the data, and data that no codec
    understands.
    """
    image = _decompress(msg) if hasattr(msg, "format") else _convert(msg)
    return np.require(image, np.uint8, ["C", "W"])


def read_raw_image(cdr: bytes, type_name: str):
    """The serialised message, which is one of `IMAGE_TYPES`, as `decode_image` takes it; no pixel is copied."""
    if type_name not in IMAGE_TYPES:
        raise ValueError(f"type is {type_name!r}, expected one of {', '.join(IMAGE_TYPES)}")
    return deserialise(cdr, type_name)


def decode_raw_image(cdr: bytes, type_name: str) -> np.ndarray:
    """As `decode_image`, from the serialised message; type_name is one of `IMAGE_TYPES`."""
    return decode_image(read_raw_image(cdr, type_name))


def image_size(msg) -> tuple[int, int]:
    """Width and height that an Image or CompressedImage announces, read in microseconds and without decoding it.

    (0, 0) for a compressed image that is no JPEG or PNG, which `decode_image` refuses.
    """
    return _announced(memoryview(msg.data)) if hasattr(msg, "format") else (int(msg.width), int(msg.height))


def _convert(msg) -> np.ndarray:
    height, width, step, encoding = int(msg.height), int(msg.width), int(msg.step), msg.encoding.lower()
    pixel = PIXEL_BYTES.get(encoding)
    if pixel is None:
        raise ValueError(f"image encoding is {msg.encoding!r}, expected one of {', '.join(sorted(PIXEL_BYTES))}")
    if height < 1 or width < 1:
        raise ValueError(f"image is {width}x{height}, expected at least one pixel")
    rows = height * 3 // 2 if encoding in ("nv12", "nv21") else height  # half as many chroma rows follow
    if step < width * pixel:
        raise ValueError(f"image step is {step}, expected at least {width * pixel} ({width} pixels of {pixel} bytes)")
    if len(msg.data) < rows * step:
        raise ValueError(f"image data hold {len(msg.data)} bytes, expected {rows * step} ({rows} rows of {step})")
    data = np.frombuffer(msg.data, np.uint8, rows * step).reshape(rows, step)[:, : width * pixel]
    if encoding == "rgb8":
        return data.reshape(height, width, 3)
    # image_to_cvimage knows neither row padding nor the height of planar images.
    packed = SimpleNamespace(
        height=rows,
        width=width,
        encoding=encoding,
        is_bigendian=bool(msg.is_bigendian),
        data=np.ascontiguousarray(data),
    )
    try:
        image = image_to_cvimage(packed, "rgb8")
    except (ImageError, cv2.error, ValueError) as error:
        raise ValueError(f"{encoding} image of {width}x{height} cannot be converted to RGB: {error}") from error
    if image.shape != (height, width, 3):
        raise ValueError(f"{encoding} image of {width}x{height} became {image.shape}: that size does not suit it")
    return image


def _decompress(msg) -> np.ndarray:
    data = np.frombuffer(msg.data, np.uint8)
    width, height = _announced(memoryview(data))
    if width * height > MOST_PIXELS:
        most = f"expected at most {MOST_PIXELS} pixels"
        raise ValueError(f"compressed image ({msg.format!r}) is {width}x{height}, {most}")
    try:
        # Pixels must stay where the camera model expects them, whatever an EXIF tag says of the camera's attitude.
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if width * height else None
    except cv2.error as error:
        raise ValueError(f"compressed image ({msg.format!r}) cannot be decoded: {error}") from error
    if image is None:
        raise ValueError(
            f"compressed image ({msg.format!r}, {len(msg.data)} bytes) cannot be decoded: damaged, or no JPEG or PNG"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _announced(data: memoryview) -> tuple[int, int]:
    """Width and height in the header of a PNG or JPEG, (0, 0) for anything else.

    OpenCV takes memory for as many as a damaged header says before it looks any further, and fills it for a JPEG.
    """
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR":
            return struct.unpack_from(">II", data, 16)
        at = 2 if data[:2] == b"\xff\xd8" else len(data)
        for _ in range(MOST_MARKERS):
            marker, length = struct.unpack_from(">HH", data, at)
            if marker in JPEG_FRAMES:
                height, width = struct.unpack_from(">HH", data, at + 5)
                return width, height
            if marker < 0xFF00:
                return 0, 0
            at += 1 if marker == 0xFFFF else 2 + length  # any number of 0xFF may stand before a marker
    except struct.error:
        pass
    return 0, 0
