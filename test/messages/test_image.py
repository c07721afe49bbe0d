import array
import struct
import time
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from tttkd_ros.messages import encodings
from tttkd_ros.messages.definitions import deserialise, standard_types
from tttkd_ros.messages.encodings import PIXEL_BYTES
from tttkd_ros.messages.image import decode_image, image_size

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
def test_colour_images_are_decoded_to_rgb(encoding, pixels, padding):
    decoded = decode_image(image(pixels, encoding, padding=padding))
    np.testing.assert_array_equal(decoded, RGB)
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous and decoded.flags.writeable


@pytest.mark.parametrize(("big_endian", "kind"), [(0, "<u2"), (1, ">u2")])
def test_sixteen_bits_are_scaled_to_eight_in_both_byte_orders(big_endian, kind):
    wide = (RGB.astype(np.uint16) * 257).astype(kind)
    decoded = decode_image(image(wide, "rgb16", padding=4, big_endian=big_endian))
    np.testing.assert_allclose(decoded, RGB, atol=1)


@pytest.mark.parametrize("encoding", PIXEL_BYTES)
def test_every_listed_encoding_is_decoded(encoding):
    rows = int(4 * encodings.PLANES.get(encoding, 1))
    pixels = np.full((rows, 6 * PIXEL_BYTES[encoding]), 128, np.uint8)
    assert decode_image(image(pixels, encoding, height=4, width=6)).shape == (4, 6, 3)


@pytest.mark.parametrize("container", [bytes, lambda b: array.array("B", b)])
def test_every_data_container_is_read(container):
    message = image(RGB, "rgb8")
    message.data = container(message.data.tobytes())
    decoded = decode_image(message)
    np.testing.assert_array_equal(decoded, RGB)
    assert decoded.flags.writeable


@pytest.mark.parametrize("encoding", ["", "rgb", "h264", "yuv420", "8UC2", "32FC3"])
def test_unknown_encoding_is_refused(encoding):
    with pytest.raises(ValueError, match=f"encoding is {encoding!r}, expected one of .*rgb8"):
        decode_image(image(RGB, encoding))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "0x4, expected at least one pixel"),
        ({"height": 0}, "6x0, expected at least one pixel"),
        ({"height": -1}, "6x-1, expected at least one pixel"),
        ({"width": 7}, "step is 18, expected at least 21"),
        ({"height": 5}, "72 bytes, expected 90"),
        ({"step": 0, "data": bytes(80)}, "step is 0, expected at least 18"),
        ({"step": 20, "data": bytes(76)}, "76 bytes, expected 80"),
        ({"data": b""}, "0 bytes, expected 72"),
        ({"width": 2**31, "step": 2**32 - 1}, "step is 4294967295, expected at least"),
        ({"width": 2**20, "step": 2**22, "height": 2**31}, "72 bytes, expected"),
    ],
)
def test_size_that_does_not_fit_the_data_is_refused(change, words):
    message = image(RGB, "rgb8")
    vars(message).update(change)
    with pytest.raises(ValueError, match=words):
        decode_image(message)


@pytest.mark.parametrize(("encoding", "shape"), [("nv12", (6, 5)), ("nv21", (4, 6)), ("yuv422", (4, 10))])
def test_subsampled_image_of_odd_size_is_refused(encoding, shape):
    pixels = np.zeros(shape, np.uint8)
    with pytest.raises(ValueError, match=encoding):
        decode_image(image(pixels, encoding, height=3 if encoding != "nv12" else 4, width=5))


def compressed(kind, data=None):
    data = cv2.imencode(f".{kind}", RGB[..., ::-1])[1] if data is None else data
    return SimpleNamespace(format=f"rgb8; {kind} compressed bgr8", data=data)


def test_grey_jpeg_has_three_channels():
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


def test_serialised_image_is_decoded():
    cdr = serialised("sensor_msgs/msg/Image", **vars(image(RGB, "rgb8")))
    np.testing.assert_array_equal(decode_image(deserialise(cdr, "sensor_msgs/msg/Image")), RGB)


def test_serialised_compressed_image_is_decoded():
    message = compressed("png")
    cdr = serialised("sensor_msgs/msg/CompressedImage", format=message.format, data=message.data.reshape(-1))
    np.testing.assert_array_equal(decode_image(deserialise(cdr, "sensor_msgs/msg/CompressedImage")), RGB)


def test_truncated_serialised_image_is_refused_at_every_length():
    cdr = serialised("sensor_msgs/msg/Image", **vars(image(RGB, "rgb8")))
    for length in range(len(cdr)):
        with pytest.raises(ValueError):
            decode_image(deserialise(cdr[:length], "sensor_msgs/msg/Image"))


def with_size(kind, width, height):
    """A JPEG or PNG whose header has another size."""
    data = bytearray(cv2.imencode(kind, RGB)[1].tobytes())
    if kind == ".jpg":
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", height, width)
    else:
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return SimpleNamespace(format=kind, data=bytes(data))


@pytest.mark.parametrize(("kind", "size"), [(".jpg", 65535), (".png", 32767), (".png", 2**31 - 1)])
def test_compressed_image_with_too_many_pixels_is_refused_before_decoding(kind, size, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", None)
    with pytest.raises(ValueError, match=f"{size}x{size}, expected at most 67108864 pixels"):
        decode_image(with_size(kind, size, size))


@pytest.mark.parametrize("before", [b"\xff\xff\xe0\x00\x04ab", b"\xff\xe1\x00\x06\xff\xc0\x00\x11"])
def test_jpeg_size_is_read_past_fill_bytes_and_thumbnails(before):
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    assert decode_image(SimpleNamespace(format="jpeg", data=data[:2] + before + data[2:])).shape == RGB.shape


def test_jpeg_with_damaged_tables_that_opencv_would_skip_is_refused():
    data = bytearray(cv2.imencode(".jpg", RGB)[1].tobytes())
    data[data.index(b"\xff\xc4")] = 0
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    with pytest.raises(ValueError, match="cannot be decoded: damaged"):
        decode_image(SimpleNamespace(format="jpeg", data=bytes(data)))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (2**32 - 1, 3)])
def test_size_of_serialised_image_is_read_without_its_pixels(width, height):
    claim = image(RGB, "rgb8", width=width, height=height)
    cdr = serialised("sensor_msgs/msg/Image", **vars(claim))
    assert image_size(deserialise(cdr, "sensor_msgs/msg/Image")) == (width, height)


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize(("width", "height"), [(3, 5), (1600, 40)])
def test_size_of_compressed_image_is_read_from_its_header(kind, width, height):
    data = np.frombuffer(cv2.imencode(kind, np.zeros((height, width, 3), np.uint8))[1], np.uint8)
    cdr = serialised("sensor_msgs/msg/CompressedImage", format=kind, data=data)
    assert image_size(deserialise(cdr, "sensor_msgs/msg/CompressedImage")) == (width, height)


def test_long_damaged_header_is_refused_quickly():
    begun = time.process_time()
    with pytest.raises(ValueError, match="cannot be decoded"):
        image_size(SimpleNamespace(format="jpeg", data=b"\xff\xd8" + b"\xff" * 30_000_000))
    assert time.process_time() - begun < 3


@pytest.mark.parametrize("step", [0, 6, 24])
def test_wrong_step_of_data_without_padding_is_ignored(step):
    message = image(RGB, "rgb8")
    message.step = step
    np.testing.assert_array_equal(decode_image(message), RGB)


def mosaic(pattern, colours, size=(16, 24)):
    """A Bayer mosaic of left half and right half in one colour each; colours (2, 3)."""
    height, width = size
    scene = np.zeros((height, width, 3), np.asarray(colours).dtype)
    scene[:, : width // 2], scene[:, width // 2 :] = colours
    sites = np.empty((height, width), scene.dtype)
    for index, channel in enumerate(pattern):
        row, column = divmod(index, 2)
        sites[row::2, column::2] = scene[row::2, column::2, "rgb".index(channel)]
    return sites


COLOURS = np.array([[200, 40, 90], [20, 160, 240]], np.uint8)
PATTERNS = ["rggb", "bggr", "gbrg", "grbg"]


def colours_of(decoded):
    """(2, 3): of the left and the right half, away from their border and the image's."""
    quarter = decoded.shape[1] // 4
    return np.stack([decoded[8, quarter], decoded[8, -quarter]]).astype(int)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_bayer_image_is_debayered(pattern):
    for sites, bits in ((mosaic(pattern, COLOURS), 8), (mosaic(pattern, COLOURS.astype(np.uint16) * 257), 16)):
        message = image(sites, f"bayer_{pattern}{bits}", height=16, width=24, padding=2)
        np.testing.assert_allclose(colours_of(decode_image(message)), COLOURS, atol=1)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(
    ("kind", "codec"),
    [
        ("jpg", "8; jpeg compressed "), ("jpg", "8; jpeg compressed bayer_"), ("png", "8; png compressed "),
        ("png", "16; png compressed "),
    ],
)  # fmt: skip
def test_compressed_bayer_image_is_debayered(pattern, kind, codec):
    colours = COLOURS.astype(np.uint16) * 257 if codec.startswith("16") else COLOURS
    data = cv2.imencode(f".{kind}", mosaic(pattern, colours, (64, 96)), [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    message = SimpleNamespace(format=f"bayer_{pattern}{codec}", data=data)
    decoded = colours_of(decode_image(message)[16:])
    np.testing.assert_allclose(decoded, COLOURS, atol=1 if kind == "png" else 12)


@pytest.mark.parametrize("original", ["bayer_rggb8", "bayer_gbrg16", "bayer_bggr8"])
def test_compressed_bayer_image_in_colour_is_not_debayered(original):
    message = compressed("png")
    message.format = f"{original}; jpeg compressed bgr8"
    np.testing.assert_array_equal(decode_image(message), RGB)


@pytest.mark.parametrize("original", ["bayer_rggb8", "bayer_gbrg16", "yuv422_yuy2"])
def test_bayer_image_that_the_transport_made_grey_stays_grey(original):
    grey = cv2.imencode(".png", RGB[..., 0])[1]
    decoded = decode_image(SimpleNamespace(format=f"{original}; jpeg compressed mono8", data=grey))
    np.testing.assert_array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=-1))


DEPTHS = ["16UC1", "32FC1", "16SC1", "64FC1", "32SC1", "16uc1"]


@pytest.mark.parametrize("encoding", DEPTHS)
def test_depth_is_refused(encoding):
    raw = image(np.zeros((4, 48), np.uint8), encoding)
    packed = SimpleNamespace(format=f"{encoding}; png compressed ", data=cv2.imencode(".png", RGB[..., 0])[1])
    for message in (raw, packed):
        with pytest.raises(ValueError, match=f"(?i)encoding is {encoding!r}, depth .* expected the topic of"):
            decode_image(message)


def test_sixteen_bit_png_without_encoding_is_refused():
    data = cv2.imencode(".png", RGB[..., 0].astype(np.uint16) * 200)[1]
    with pytest.raises(ValueError, match="one channel of 16 bits, grey or depth"):
        decode_image(SimpleNamespace(format="png", data=data))
    assert decode_image(SimpleNamespace(format="mono16; png compressed ", data=data)).shape == RGB.shape


UNORDERED = {"8UC3": RGB, "8UC4": alpha(RGB), "16UC3": RGB.astype(np.uint16) * 257,
             "16UC4": alpha(RGB).astype(np.uint16) * 257}


@pytest.mark.parametrize("encoding", UNORDERED)
def test_unordered_channels_need_a_channel_order(encoding):
    message = image(UNORDERED[encoding], encoding)
    with pytest.raises(ValueError, match=f"{encoding!r}, which does not tell red from blue: set images.channel_order"):
        decode_image(message)
    np.testing.assert_allclose(decode_image(message, channel_order="rgb"), RGB, atol=1)
    np.testing.assert_allclose(decode_image(message, channel_order="bgr"), RGB[..., ::-1], atol=1)


def test_unordered_channels_in_a_png_need_a_channel_order():
    message = compressed("png", cv2.imencode(".png", RGB)[1])  # as if its first channel were blue
    message.format = "8UC3; png compressed "
    with pytest.raises(ValueError, match="does not tell red from blue"):
        decode_image(message)
    np.testing.assert_array_equal(decode_image(message, channel_order="rgb"), RGB)
    np.testing.assert_array_equal(decode_image(message, channel_order="bgr"), RGB[..., ::-1])


def test_unknown_channel_order_is_refused():
    with pytest.raises(ValueError, match="channel order is 'grb', expected one of refuse, bgr, rgb"):
        decode_image(image(RGB, "8UC3"), channel_order="grb")


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_image_has_three_equal_channels(encoding):
    decoded = decode_image(image(RGB[..., 0].copy(), encoding, padding=2))
    np.testing.assert_array_equal(decoded, np.repeat(RGB[..., :1], 3, axis=-1))


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16"])
def test_ten_to_sixteen_bits_are_scaled_to_the_whole_range(bits, encoding):
    full = np.full((4, 6 * PIXEL_BYTES[encoding] // 2), 2**bits - 1, np.uint16)
    half = full // 2
    half[0, 0] = full[0, 0]
    assert decode_image(image(full, encoding)).min() == 255
    assert 127 <= np.median(decode_image(image(half, encoding))) <= 128


@pytest.mark.parametrize(("value", "expected"), [(4095 << 4, 255), (20, 5)], ids=["upper bits", "dark image"])
def test_sixteen_bits_keep_their_brightness(value, expected):
    assert (decode_image(image(np.full((4, 6), value, np.uint16), "mono16")) == expected).all()


@pytest.mark.parametrize("kind", ["nv12", "nv21", "nv24"])
def test_planar_images_are_decoded_to_rgb(kind):
    """Red, in BT.601: Y 81, Cb 90, Cr 240."""
    chroma = (240, 90) if kind == "nv21" else (90, 240)
    rows = 4 if kind == "nv24" else 2
    planes = np.full((4 + rows * (2 if kind == "nv24" else 1), 8), 81, np.uint8)
    planes[4:] = np.tile(chroma, planes[4:].size // 2).reshape(planes[4:].shape)
    decoded = decode_image(image(planes, kind, height=4, width=8))
    np.testing.assert_allclose(decoded.reshape(-1, 3), np.tile([255, 0, 0], (32, 1)), atol=2)


def test_row_padding_of_planes_is_skipped():
    """nv24: the rows of its second plane are twice as long, and so is their padding."""
    planes = np.full(4 * 3 * 10, 0xAB, np.uint8)
    planes[:40].reshape(4, 10)[:, :8] = 81
    planes[40:].reshape(4, 20)[:, :16] = np.tile((90, 240), 8)
    message = image(planes.reshape(12, 10), "nv24", height=4, width=8)
    np.testing.assert_allclose(decode_image(message).reshape(-1, 3), np.tile([255, 0, 0], (32, 1)), atol=2)


@pytest.mark.parametrize("share", [0.4, 0.7, 0.99])
@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_truncated_image_is_refused(kind, share):
    data = cv2.imencode(f".{kind}", np.tile(RGB, (20, 20, 1)))[1].tobytes()
    with pytest.raises(ValueError, match="cut short"):
        decode_image(SimpleNamespace(format=kind, data=data[: int(len(data) * share)]))


def test_bytes_after_a_jpeg_are_ignored():
    data = cv2.imencode(".jpg", RGB)[1].tobytes()
    assert decode_image(SimpleNamespace(format="jpeg", data=data + bytes(100))).shape == RGB.shape


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("16UC1; compressedDepth", bytes(12) + b"\x89PNG\r\n\x1a\n", "depth .compressed_depth_image_transport"),
        ("32FC1; compressedDepth rvl", bytes(50), "depth .compressed_depth_image_transport"),
        ("16UC1; compressedDepth png", b"\x89PNG\r\n\x1a\n", "depth"),
        ("h264", b"\0\0\0\x01\x67", "video.*ffmpeg_image_transport: ros2 run image_transport republish"),
        ("h265", bytes(9), "video.*ffmpeg_image_transport"),
        ("", b"\0\0\x01\x40", "video.*ffmpeg_image_transport"),
        ("avif", b"\0\0\0\x1cftypavif", "AVIF; decode them with avif_image_transport"),
        ("zstd", b"\x06\0\0\0", "zstd_image_transport: ros2 run image_transport republish.*in_transport:=zstd"),
        ("rgb8; tiff compressed ", b"II*\0\x08", "TIFF.*<topic>.compressed.format"),
        ("webp", b"RIFF\0\0\0\0WEBP", "WebP, no JPEG or PNG"),
        ("bmp", b"BM\0\0", "BMP, no JPEG or PNG"),
    ],
)
def test_undecoded_formats_are_refused_with_the_remedy(kind, data, words):
    with pytest.raises(ValueError, match=words):
        decode_image(SimpleNamespace(format=kind, data=data))


@pytest.mark.parametrize("limit", [RGB[..., 0].size - 1, 1])
def test_image_above_the_pixel_limit_is_refused(limit):
    for message in (image(RGB, "rgb8"), compressed("png"), compressed("jpg")):
        with pytest.raises(ValueError, match=f"is 6x4, expected at most {limit} pixels"):
            decode_image(message, max_pixels=limit)
        assert decode_image(message, max_pixels=RGB[..., 0].size).shape == RGB.shape


class Bridge:
    """cv_bridge's converter, as far as it goes: another one answers for encodings that this one does not know."""

    def __init__(self, known):
        self.known, self.asked = known, []

    def imgmsg_to_cv2(self, message, target):
        self.asked.append((message.encoding, target))
        if message.encoding not in self.known:
            raise TypeError(f"Unrecognized image encoding [{message.encoding}]")
        return np.full((message.height, message.width, 3), 7, np.uint16 if target == "rgb16" else np.uint8)


def test_cv_bridge_converts_if_it_is_installed(monkeypatch):
    bridge = Bridge(("bgr8", "mono16"))
    monkeypatch.setattr(encodings, "cv_bridge", lambda: bridge)
    assert (decode_image(image(RGB, "bgr8", padding=5)) == 7).all()
    assert (decode_image(image(RGB[..., 0].astype(np.uint16), "mono16")) == 2).all()  # of 10 bits
    assert bridge.asked == [("bgr8", "rgb8"), ("mono16", "rgb16")]


def test_encoding_that_cv_bridge_lacks_is_converted_without_it(monkeypatch):
    expected = decode_image(image(np.full((4, 12), 128, np.uint8), "uyvy"))
    monkeypatch.setattr(encodings, "cv_bridge", lambda: Bridge(()))
    np.testing.assert_array_equal(decode_image(image(np.full((4, 12), 128, np.uint8), "uyvy")), expected)


@pytest.mark.skipif(encodings.cv_bridge() is None, reason="cv_bridge is not installed")
@pytest.mark.parametrize("encoding", PIXEL_BYTES)
def test_cv_bridge_and_rosbags_image_agree(encoding, monkeypatch):
    rows, columns = int(16 * encodings.PLANES.get(encoding, 1)), 24 * PIXEL_BYTES[encoding]
    noise = np.random.default_rng(1).integers(0, 256, (rows, columns), dtype=np.uint8)
    message = image(noise, encoding, height=16, width=24, padding=8)
    by_cv_bridge = decode_image(message)
    monkeypatch.setattr(encodings, "cv_bridge", lambda: None)
    np.testing.assert_allclose(by_cv_bridge.astype(int), decode_image(message), atol=1)
