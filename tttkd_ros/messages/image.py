"""Image and CompressedImage to RGB arrays, without ROS: any object with the message's attributes serves."""

from __future__ import annotations

import numpy as np

from tttkd_ros.messages.compressed_image import announced_size, decompress
from tttkd_ros.messages.definitions import deserialise
from tttkd_ros.messages.encodings import PIXEL_BYTES, PLANES, colour_encoding, to_rgb

MOST_PIXELS = 2**26
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def decode_image(msg, *, channel_order: str = "refuse", max_pixels: int = MOST_PIXELS) -> np.ndarray:
    """(H, W, 3) uint8 RGB, C-contiguous and writable, of an Image or a CompressedImage (which has a `format`).

    channel_order: bgr or rgb, of encodings that do not tell it (8UC3 and its like); by default these are refused.
    max_pixels: of a larger image nothing is decoded. Raises ValueError for an unknown encoding, depth, a size that is
    zero or too large or does not fit the data, and data that no codec here understands.
    """
    if hasattr(msg, "format"):
        image = to_rgb(*decompress(msg, channel_order, max_pixels))
    else:
        image = _convert(msg, channel_order, max_pixels)
    return np.require(image, np.uint8, ["C", "W"])


def decode_raw_image(cdr: bytes, type_name: str, **options) -> np.ndarray:
    """As `decode_image`, from the serialised message; type_name is one of `IMAGE_TYPES`, options are those there."""
    return decode_image(read_raw_image(cdr, type_name), **options)


def read_raw_image(cdr: bytes, type_name: str):
    """The serialised message, which is one of `IMAGE_TYPES`, as `decode_image` takes it; no pixel is copied."""
    if type_name not in IMAGE_TYPES:
        raise ValueError(f"type is {type_name!r}, expected one of {', '.join(IMAGE_TYPES)}")
    return deserialise(cdr, type_name)


def image_size(msg) -> tuple[int, int]:
    """Width and height that an Image or CompressedImage announces, read in microseconds and without decoding it.

    (0, 0) for a compressed image that is no JPEG or PNG, which `decode_image` refuses.
    """
    return announced_size(msg.data) if hasattr(msg, "format") else (int(msg.width), int(msg.height))


def _convert(msg, channel_order: str, max_pixels: int) -> np.ndarray:
    height, width, step = int(msg.height), int(msg.width), int(msg.step)
    encoding = colour_encoding(msg.encoding, channel_order)
    if height < 1 or width < 1:
        raise ValueError(f"image is {width}x{height}, expected at least one pixel")
    rows, row = int(height * PLANES.get(encoding, 1)), width * PIXEL_BYTES[encoding]
    size = len(msg.data)
    if size == rows * row:
        step = row  # the data have no padding, whatever the step says
    if step < row:
        raise ValueError(
            f"image step is {step}, expected at least {row} ({width} pixels of {PIXEL_BYTES[encoding]} bytes)"
        )
    if size < rows * step:
        raise ValueError(f"image data hold {size} bytes, expected {rows * step} ({rows} rows of {step})")
    if width * height > max_pixels:
        raise ValueError(f"image is {width}x{height}, expected at most {max_pixels} pixels")
    data = np.frombuffer(msg.data, np.uint8, rows * step)
    if encoding == "nv24":  # chroma has rows of twice the length
        luma, chroma = data[: height * step].reshape(height, -1), data[height * step :].reshape(height, -1)
        data = np.concatenate([luma[:, :row], chroma[:, : 2 * row].reshape(-1, row)])
    else:
        data = data.reshape(rows, step)[:, :row]
    if encoding.endswith("16"):
        data = np.ascontiguousarray(data).view(">u2" if msg.is_bigendian else "<u2").astype(np.uint16, copy=False)
    pixels = data if data.shape[1] == width else data.reshape(rows, width, -1)
    image = to_rgb(pixels, encoding)
    if image.shape != (height, width, 3):
        raise ValueError(f"{encoding} image of {width}x{height} became {image.shape}: that size does not suit it")
    return image
