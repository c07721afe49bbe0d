"""Image encodings (sensor_msgs/image_encodings, and some that drivers add) and the conversion of pixels to RGB."""

from __future__ import annotations

import re
from functools import cache
from types import SimpleNamespace

import cv2
import numpy as np
from rosbags.image import ImageError, image_to_cvimage

# Bytes from one pixel to the next, in the first plane, of the encodings that are colour or grey images.
PIXEL_BYTES = {
    "mono8": 1, "mono16": 2, "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "rgb16": 6, "bgr16": 6, "rgba16": 8,
    "bgra16": 8, "uyvy": 2, "yuv422": 2, "yuyv": 2, "yuv422_yuy2": 2, "nv12": 1, "nv21": 1, "nv24": 1,
    **{f"bayer_{pattern}{bits}": bits // 8 for pattern in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)},
}  # fmt: skip
PLANES = {"nv12": 1.5, "nv21": 1.5, "nv24": 3}  # bytes of all planes / bytes of the first
ALIASES = {"8uc": "mono8", "8uc1": "mono8"}
DEPTH = re.compile(r"(16u|16s|32s|32f|64f)c?1?")
UNORDERED = re.compile(r"(8|16)uc([34])")
CHANNEL_ORDERS = ("refuse", "bgr", "rgb")  # of the encodings that do not specify it
BITS = (10, 12, 14, 16)  # of cameras whose pixels take two bytes


def colour_encoding(encoding: str, channel_order: str = "refuse") -> str:
    """The key of `PIXEL_BYTES` for an encoding. channel_order, one of `CHANNEL_ORDERS`, is for 8UC3, 8UC4 and 16UC3.

    Raises ValueError for depth, an unknown channel order, or an encoding that is no colour or grey image.
    """
    name = encoding.lower()
    name = ALIASES.get(name, name)
    if name in PIXEL_BYTES:
        return name
    if channel_order not in CHANNEL_ORDERS:
        raise ValueError(f"channel order is {channel_order!r}, expected one of {', '.join(CHANNEL_ORDERS)}")
    if unordered := UNORDERED.fullmatch(name):
        if channel_order == "refuse":
            raise ValueError(f"image encoding is {encoding!r}, which does not tell red from blue: set images."
                             "channel_order (tttkd evaluate: --channel-order) to bgr, which is OpenCV's, or rgb")
        bits, channels = unordered.groups()
        return f"{channel_order}{'a' if channels == '4' else ''}{bits}"
    if DEPTH.fullmatch(name):
        raise ValueError(f"image encoding is {encoding!r}, depth or other measurements and no picture: expected the "
                         "topic of the camera's colour or grey images")
    raise ValueError(f"image encoding is {encoding!r}, expected one of {', '.join(sorted(PIXEL_BYTES))}")


def to_rgb(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Convert pixels to (H, W, 3) uint8 RGB. Raises ValueError if their size does not suit the encoding.

    cv_bridge converts them if ROS provides it, because its encodings are the convention; otherwise rosbags-image does.
    Sixteen bits are scaled by the fewest of `BITS` that hold the largest value: an encoding does not specify them.

    pixels: uint8 or uint16 in native byte order, without row padding: (H, W), (H, W, channels), or (rows, W) with all
    planes of a planar image. encoding: a key of `PIXEL_BYTES`.
    """
    if encoding == "nv24":
        pixels, encoding = _half_chroma(pixels), "nv12"
    target = "rgb16" if pixels.dtype == np.uint16 else "rgb8"
    if encoding != target:
        pixels = _convert(np.ascontiguousarray(pixels), encoding, target)
    if target == "rgb8":
        return pixels
    largest = int(pixels.max())
    bits = next(bits for bits in BITS if largest >> bits == 0)
    return cv2.convertScaleAbs(pixels, alpha=255 / (2**bits - 1))


@cache
def cv_bridge():
    """ROS's converter; None if it is missing, or does not work with this interpreter's NumPy and OpenCV."""
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        pixel = np.array([[[1, 2, 3]]], np.uint8)
        works = np.array_equal(bridge.imgmsg_to_cv2(_message(pixel, "bgr8"), "rgb8"), pixel[..., ::-1])
    except Exception:
        return None
    return bridge if works else None


def _convert(pixels: np.ndarray, encoding: str, target: str) -> np.ndarray:
    message = _message(pixels, encoding)
    if (bridge := cv_bridge()) is not None:
        try:
            return bridge.imgmsg_to_cv2(message, target)
        except Exception:  # an encoding that it does not know, or a failure that rosbags-image explains
            pass
    try:
        return image_to_cvimage(message, target)
    except (ImageError, cv2.error, ValueError) as error:
        size = f"{message.width}x{message.height}"
        raise ValueError(f"{encoding} image of {size} cannot be converted to RGB: {error}") from error


def _message(pixels: np.ndarray, encoding: str) -> SimpleNamespace:
    """An Image of contiguous pixels."""
    height, width = pixels.shape[:2]
    return SimpleNamespace(height=height, width=width, encoding=encoding, is_bigendian=False, step=pixels.strides[0],
                           data=pixels.reshape(-1).view(np.uint8))


def _half_chroma(pixels: np.ndarray) -> np.ndarray:
    """nv24 (3 * H, W) as nv12 (1.5 * H, W): OpenCV has no conversion of nv24."""
    rows, width = pixels.shape
    height = rows // 3
    chroma = pixels[height:].reshape(height, width, 2)
    if height % 2 or width % 2:
        raise ValueError(f"nv24 image of {width}x{height} cannot be converted to RGB: expected an even size")
    chroma = cv2.resize(chroma, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return np.concatenate([pixels[:height], chroma.reshape(height // 2, width)])
