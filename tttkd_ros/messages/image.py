"""Image and CompressedImage to RGB arrays, without ROS: any object with the message's attributes serves."""

from __future__ import annotations

from io import BytesIO

import cv2
import numpy as np
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from tttkd_ros.messages.encodings import DEPTH, PIXEL_BYTES, PLANES, UNORDERED, colour_encoding, to_rgb
from tttkd_ros.messages.transports import explain_format

MAX_PIXELS = 2**26
JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"
JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"
HEADER_BYTES = 2**18  # of a JPEG or PNG that are searched for its size: the metadata of cameras are shorter
# The camera model holds for the pixels as they are stored, so an EXIF orientation must not rotate them.
AS_STORED = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION


def image_size(msg) -> tuple[int, int]:
    """Width and height of an Image or CompressedImage in pixels, by its header and without decoding it.

    Raises ValueError for a CompressedImage that is no JPEG or PNG, or has a damaged header.
    """
    if not hasattr(msg, "format"):
        return int(msg.width), int(msg.height)
    header = bytes(msg.data[:HEADER_BYTES])
    if not header.startswith((JPEG, PNG)) or "compresseddepth" in msg.format.lower():
        raise ValueError(explain_format(msg.format, bytes(msg.data)))
    try:
        return (JpegImageFile if header.startswith(JPEG) else PngImageFile)(BytesIO(header)).size
    except Exception as error:  # Pillow raises many types for damaged data
        raise ValueError(_undecodable(msg, f"damaged or cut short ({error})")) from error


def decode_image(msg, *, channel_order: str = "refuse", max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an Image, or a CompressedImage (which has a `format`).

    Args:
        msg: the message.
        channel_order: "bgr" or "rgb" for encodings that do not specify it (8UC3 and others); "refuse" rejects them.
        max_pixels: a larger image is rejected before it is decoded.

    Returns:
        (H, W, 3) uint8 RGB, C-contiguous and writable.

    Raises:
        ValueError: an unknown encoding, depth, a size that is zero, too large or does not fit the data, data that are
            damaged or of another codec.
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
    size = image_size(msg)
    if DEPTH.fullmatch(original):
        colour_encoding(original)  # raises
    _check_size(*size, max_pixels)
    pixels = _decode(msg)
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


def _decode(msg) -> np.ndarray:
    """The pixels of a JPEG or PNG as they are stored, (H, W) or (H, W, 3) BGR, uint8 or uint16."""
    data = bytes(msg.data)
    # Some decoders fill the rest of a cut JPEG with grey. A whole one has no scan after its last end marker; a cut one
    # may have the end marker of its thumbnail.
    if data.startswith(JPEG) and ((end := data.rfind(JPEG_END)) < 0 or data.find(JPEG_SCAN, end) >= 0):
        raise ValueError(_undecodable(msg, "cut short, its JPEG has no end"))
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), AS_STORED)
    except cv2.error as error:
        raise ValueError(_undecodable(msg, str(error))) from error
    if pixels is None:
        raise ValueError(_undecodable(msg, "damaged or cut short"))
    return pixels


def _undecodable(msg, reason: str) -> str:
    return f"compressed image ({msg.format!r}, {len(msg.data)} bytes) cannot be decoded: {reason}"
