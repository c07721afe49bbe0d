import array
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.image import (
    PIXEL_BYTES,
    decode_image,
    decode_raw_image,
    image_size,
    read_raw_image,
)

RGB = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def image(pixels, encoding, *, padding=0, big_endian=0, width=None, height=None):
    rows = pixels.reshape(len(pixels), -1).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    return SimpleNamespace(
        height=RGB.shape[0] if height is None else height, width=RGB.shape[1] if width is None else width,
        encoding=encoding, is_bigendian=big_endian, step=data.shape[1], data=data.reshape(-1),
    )  # fmt: skip


def alpha(pixels):
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 7)], axis=-1)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1].copy()),
        ("rgba8", alpha(RGB)),
        ("bgra8", alpha(RGB[..., ::-1])),
        ("RGB8", RGB),
    ],
)
def test_colours_come_out_as_rgb_without_row_padding(encoding, pixels, padding):
    decoded = decode_image(image(pixels, encoding, padding=padding))
    np.testing.assert_array_equal(decoded, RGB)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous and decoded.flags.writeable


def test_a_grey_image_has_three_equal_channels():
    decoded = decode_image(image(RGB[..., 0].copy(), "mono8", padding=2))
    np.testing.assert_array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=-1))


@pytest.mark.parametrize(("big_endian", "kind"), [(0, "<u2"), (1, ">u2")])
def test_sixteen_bits_are_scaled_to_eight_in_either_byte_order(big_endian, kind):
    wide = (RGB.astype(np.uint16) * 257).astype(kind)
    decoded = decode_image(image(wide, "rgb16", padding=4, big_endian=big_endian))
    np.testing.assert_allclose(decoded, RGB, atol=1)


def test_planar_yuv_has_half_as_many_rows_again_as_the_image():
    grey = np.full((6, 6), 128, np.uint8)
    decoded = decode_image(image(grey, "nv12", height=4, width=6))
    assert decoded.shape == (4, 6, 3) and np.ptp(decoded) == 0


@pytest.mark.parametrize("encoding", PIXEL_BYTES)
def test_every_listed_encoding_is_decoded(encoding):
    rows = 6 if encoding.startswith("nv") else 4
    pixels = np.full((rows, 6 * PIXEL_BYTES[encoding]), 128, np.uint8)
    assert decode_image(image(pixels, encoding, height=4, width=6)).shape == (4, 6, 3)


@pytest.mark.parametrize("container", [bytes, lambda b: array.array("B", b)])
def test_data_in_every_container_that_messages_use(container):
    message = image(RGB, "rgb8")
    message.data = container(message.data.tobytes())
    decoded = decode_image(message)
    np.testing.assert_array_equal(decoded, RGB)
    assert decoded.flags.writeable


@pytest.mark.parametrize("encoding", ["", "rgb", "8UC3", "16UC1", "32FC1", "h264"])
def test_an_unknown_encoding_is_refused(encoding):
    with pytest.raises(ValueError, match=f"encoding is {encoding!r}, expected one of .*rgb8"):
        decode_image(image(RGB, encoding))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "0x4, expected at least one pixel"),
        ({"height": 0}, "6x0, expected at least one pixel"),
        ({"width": 7}, "step is 18, expected at least 21"),
        ({"height": 5}, "72 bytes, expected 90"),
        ({"step": 0}, "step is 0, expected at least 18"),
        ({"step": 20}, "72 bytes, expected 80"),
        ({"data": b""}, "0 bytes, expected 72"),
        ({"width": 2**31, "step": 2**32 - 1}, "step is 4294967295, expected at least"),
        ({"width": 2**20, "step": 2**22, "height": 2**31}, "72 bytes, expected"),
    ],
)
def test_a_size_that_does_not_fit_is_refused(change, words):
    message = image(RGB, "rgb8")
    vars(message).update(change)
    with pytest.raises(ValueError, match=words):
        decode_image(message)


@pytest.mark.parametrize(("encoding", "shape"), [("nv12", (6, 5)), ("nv21", (4, 6)), ("yuv422", (4, 10))])
def test_a_subsampled_image_of_odd_size_is_refused(encoding, shape):
    pixels = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=encoding):
        decode_image(image(pixels, encoding, height=3 if encoding != "nv12" else 4, width=5))


def compressed(kind, data=None):
    data = cv2.imencode(f".{kind}", RGB[..., ::-1])[1] if data is None else data
    return SimpleNamespace(format=f"rgb8; {kind} compressed bgr8", data=data)


def test_a_png_comes_out_as_it_went_in():
    np.testing.assert_array_equal(decode_image(compressed("png")), RGB)


def test_a_grey_jpeg_has_three_channels():
    grey = cv2.imencode(".jpg", np.full((16, 24), 90, np.uint8))[1].tobytes()
    np.testing.assert_array_equal(decode_image(compressed("jpeg", grey)), np.full((16, 24, 3), 90))


@pytest.mark.parametrize("data", [b"", b"garbage", bytes(1000), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_compressed_garbage_is_refused(data):
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_image(compressed("jpeg", data))


def serialised(type_name, **fields):
    store = standard_types()
    time = store.types["builtin_interfaces/msg/Time"](sec=1, nanosec=2)
    header = store.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    return bytes(store.serialize_cdr(store.types[type_name](header=header, **fields), type_name))


def test_a_serialised_image_is_decoded():
    cdr = serialised("sensor_msgs/msg/Image", **vars(image(RGB, "rgb8")))
    np.testing.assert_array_equal(decode_raw_image(cdr, "sensor_msgs/msg/Image"), RGB)


def test_a_serialised_compressed_image_is_decoded():
    message = compressed("png")
    cdr = serialised("sensor_msgs/msg/CompressedImage", format=message.format, data=message.data.reshape(-1))
    np.testing.assert_array_equal(decode_raw_image(cdr, "sensor_msgs/msg/CompressedImage"), RGB)


def test_every_way_to_cut_a_serialised_image_short_is_refused():
    cdr = serialised("sensor_msgs/msg/Image", **vars(image(RGB, "rgb8")))
    for length in range(len(cdr)):
        with pytest.raises(ValueError):
            decode_raw_image(cdr[:length], "sensor_msgs/msg/Image")


def test_a_type_that_is_no_image_is_refused():
    with pytest.raises(ValueError, match="expected one of sensor_msgs/msg/Image"):
        decode_raw_image(b"", "sensor_msgs/msg/PointCloud2")


def encoded(kind):
    """The image in that format, and where its header says its height and width."""
    data = bytearray(cv2.imencode(kind, RGB)[1].tobytes())
    return data, data.index(b"\xff\xc0") + 5 if kind == ".jpg" else 16


@pytest.mark.parametrize(("kind", "size"), [(".jpg", b"\xff\xff" * 2), (".png", b"\0\0\x7f\xff" * 2)])
def test_a_header_that_tells_of_more_pixels_than_any_camera_has_is_refused_unopened(kind, size):
    data, at = encoded(kind)
    data[at : at + len(size)] = size
    with pytest.raises(ValueError, match="expected at most 67108864 pixels"):
        decode_image(SimpleNamespace(format=kind, data=bytes(data)))


@pytest.mark.parametrize("before", [b"\xff\xff\xe0\x00\x04ab", b"\xff\xe1\x00\x06\xff\xc0\x00\x11"])
def test_a_size_is_read_past_fill_bytes_and_thumbnails(before):
    data, _ = encoded(".jpg")
    assert decode_image(SimpleNamespace(format="jpeg", data=bytes(data[:2] + before + data[2:]))).shape == RGB.shape


@pytest.mark.parametrize("kind", [".bmp", ".tiff", ".webp"])
def test_another_format_is_refused(kind):
    with pytest.raises(ValueError, match="no JPEG or PNG"):
        decode_image(SimpleNamespace(format=kind, data=cv2.imencode(kind, RGB)[1]))


def test_a_negative_size_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        decode_image(image(RGB, "rgb8", height=-1))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (640, 480), (10_000, 10_000), (2**32 - 1, 3)])
def test_the_size_of_a_serialised_image_is_read_without_its_pixels(width, height):
    claim = image(RGB, "rgb8", width=width, height=height)
    cdr = serialised("sensor_msgs/msg/Image", **vars(claim))
    assert image_size(read_raw_image(cdr, "sensor_msgs/msg/Image")) == (width, height)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize(("width", "height"), [(3, 5), (333, 222), (1600, 40)])
def test_the_size_of_a_compressed_image_is_read_from_its_header(kind, width, height):
    data = np.frombuffer(cv2.imencode(kind, np.zeros((height, width, 3), np.uint8))[1], np.uint8)
    cdr = serialised("sensor_msgs/msg/CompressedImage", format=kind, data=data)
    assert image_size(read_raw_image(cdr, "sensor_msgs/msg/CompressedImage")) == (width, height)


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xd8" + b"\xff" * 3_000_000, b"\x89PNG\r\n\x1a\n"])
def test_what_has_no_size_has_none_and_is_not_searched_for_long(data):
    assert image_size(SimpleNamespace(format="jpeg", data=data)) == (0, 0)
