import array
from types import SimpleNamespace

import numpy as np
import pytest

from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.messages.cloud_encoding import encode_labelled, encode_points
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field

INT32, UINT32, UINT16, UINT8, FLOAT32, FLOAT64 = 5, 6, 4, 2, 7, 8


def field(name, offset, datatype=FLOAT32, count=1):
    return SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count)


XYZ = [field("x", 0), field("y", 4), field("z", 8)]


def cloud(fields, point_step, data, width, height=1, row_step=None, big_endian=False):
    row_step = width * point_step if row_step is None else row_step
    return SimpleNamespace(
        fields=fields, point_step=point_step, row_step=row_step, width=width, height=height, data=data,
        is_bigendian=big_endian, is_dense=True,
    )  # fmt: skip


def structured(dtype, width, height=1, row_padding=0, seed=0):
    """Random values under a structured dtype, as (values (H, W), message): each row followed by padding bytes."""
    dtype = np.dtype(dtype)
    generator = np.random.default_rng(seed)
    values = np.zeros((height, width), dtype)
    codes = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    fields, big = [], False
    for name in dtype.names:
        kind, offset = dtype.fields[name][:2]
        values[name] = generator.integers(0, 100, (height, width)) + (0.25 if kind.kind == "f" else 0)
        fields.append(field(name, offset, codes[kind.str[1:]]))
        big |= kind.byteorder == ">"
    rows = np.full((height, width * dtype.itemsize + row_padding), 0xAB, np.uint8)
    rows[:, : width * dtype.itemsize] = values.view(np.uint8).reshape(height, -1)
    return values, cloud(fields, dtype.itemsize, rows.reshape(-1), width, height, rows.shape[1], big)


def xyz_of(values):
    return np.stack([values[axis].reshape(-1) for axis in "xyz"], axis=1).astype(np.float32)


def packed(points):
    return cloud(XYZ, 12, np.ascontiguousarray(points, "<f4").reshape(-1).view(np.uint8), len(points))


LAYOUTS = {
    "packed": [("x", "<f4"), ("y", "<f4"), ("z", "<f4")],
    "big-endian": [("x", ">f4"), ("y", ">f4"), ("z", ">f4"), ("intensity", ">f4")],
    "float64": [("x", "<f8"), ("y", "<f8"), ("z", "<f8")],
    "float64 x only": [("x", "<f8"), ("y", "<f4"), ("z", "<f4")],
    "big-endian float64": [("x", ">f8"), ("y", ">f8"), ("z", ">f8")],
    "axes out of order": [("z", "<f4"), ("x", "<f4"), ("y", "<f4")],
    "axes apart": [("x", "<f4"), ("ring", "<u2"), ("y", "<f4"), ("time", "<f8"), ("z", "<f4")],
    "unaligned step": [("ring", "<u1"), ("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("intensity", "<u2")],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("height", "padding"), [(1, 0), (3, 0), (3, 7)], ids=["row", "organised", "padded rows"])
def test_points_are_decoded_from_every_layout_row_by_row(layout, height, padding):
    values, message = structured(LAYOUTS[layout], 5, height, padding)
    points = decode_cloud(message).points
    np.testing.assert_array_equal(points, xyz_of(values))
    assert points.dtype == np.float32 and points.flags.c_contiguous and points.flags.writeable


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<u1", "<u2", ">u2", "<f8"])
def test_intensity_of_every_type_becomes_float32(kind):
    order = kind[0]
    dtype = [("x", f"{order}f4"), ("y", f"{order}f4"), ("z", f"{order}f4"), ("intensity", kind)]
    values, message = structured(dtype, 4, 2, 5)
    intensity = decode_cloud(message).intensity
    assert intensity.dtype == np.float32
    np.testing.assert_array_equal(intensity, values["intensity"].reshape(-1))


@pytest.mark.parametrize(("name", "kind"), [("rgb", "<f4"), ("rgba", "<u4"), ("rgb", ">u4"), ("rgb", ">f4")])
def test_a_packed_colour_becomes_three_numbers_up_to_one(name, kind):
    order = kind[0]
    dtype = [("x", f"{order}f4"), ("y", f"{order}f4"), ("z", f"{order}f4"), (name, f"{order}u4")]
    values, message = structured(dtype, 4, 2, 5)
    if kind.endswith("f4"):
        message.fields[3].datatype = 7
    packed_colour = values[name].reshape(-1).astype(np.int64)
    expected = np.stack([packed_colour // 65536 % 256, packed_colour // 256 % 256, packed_colour % 256], 1) / 255
    np.testing.assert_allclose(decode_cloud(message, ["rgb"]).features["rgb"], expected, rtol=1e-6)


def test_a_colour_of_another_size_is_refused():
    _, message = structured([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u2")], 4)
    assert "rgb" not in decode_cloud(message).features
    with pytest.raises(ValueError, match="field 'rgb' has datatype 4, expected UINT32"):
        decode_cloud(message, ["rgb"])


def test_normals_are_read_if_all_three_axes_are_there():
    axes = [(name, "<f4") for name in ("x", "y", "z", "normal_x", "normal_y", "normal_z")]
    values, message = structured(axes, 4, 2)
    expected = np.stack([values[name].reshape(-1) for name in ("normal_x", "normal_y", "normal_z")], 1)
    np.testing.assert_array_equal(decode_cloud(message, ["normal"]).features["normal"], expected)
    assert not decode_cloud(structured(axes[:5], 4)[1], ["normal"]).features


def test_cloud_without_intensity_has_none():
    decoded = decode_cloud(packed(np.ones((2, 3))))
    assert decoded.intensity is None


@pytest.mark.parametrize(
    "container", [bytes, bytearray, lambda data: array.array("B", data), lambda data: np.frombuffer(data, np.uint8)]
)
def test_every_data_container_is_read(container):
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    message = packed(points)
    message.data = container(message.data.tobytes())
    decoded = decode_cloud(message).points
    np.testing.assert_array_equal(decoded, points)
    assert decoded.flags.writeable


@pytest.mark.parametrize("container", [bytes, lambda data: array.array("B", data)])
@pytest.mark.parametrize("point_step", [12, 16, 22, 48, 512, 516, 2048, 2052])
def test_points_are_decoded_bit_for_bit_at_every_point_step(point_step, container):
    size = 1001  # no multiple of a vector's width
    data = np.random.default_rng(0).integers(0, 256, size * point_step, np.uint8)  # some of these floats are NaN
    decoded = decode_cloud(cloud(XYZ, point_step, container(data.tobytes()), size)).points
    np.testing.assert_array_equal(decoded.view(np.uint8).reshape(size, 12), data.reshape(size, point_step)[:, :12])


def test_points_are_encoded_bit_for_bit():
    random = np.random.default_rng(0).integers(0, 256, 1001 * 12, np.uint8)
    points, labels, confidence, values = random.view(np.float32).reshape(-1, 3), *labelled(1001, intensity=True)[1:]
    encoded = encode_labelled(points, labels, confidence, OUTDOOR.palette, values)
    np.testing.assert_array_equal(encoded.data.reshape(1001, 28)[:, :12], random.reshape(1001, 12))


def test_strided_columns_are_encoded():
    points, labels, confidence, values = (column[::2] for column in labelled(6, intensity=True))
    encoded = encode_labelled(points, labels, confidence, OUTDOOR.palette, values)
    decoded = decode_cloud(as_message(encoded))
    np.testing.assert_array_equal(decoded.points, points)
    np.testing.assert_array_equal(decoded.intensity, values)
    np.testing.assert_array_equal(decode_field(as_message(encoded), "label"), labels)


def test_points_that_are_not_finite_keep_their_place():
    points = np.array([[1, 2, 3], [np.nan, 0, 0], [np.inf, -np.inf, 0], [4, 5, 6]], np.float32)
    np.testing.assert_array_equal(decode_cloud(packed(points)).points, points)


@pytest.mark.parametrize(("width", "height"), [(0, 1), (0, 0), (5, 0)])
@pytest.mark.parametrize("fields", [XYZ, []], ids=["with fields", "without"])
def test_empty_cloud_has_no_points(width, height, fields):
    decoded = decode_cloud(cloud(fields, 12, b"", width, height))
    assert decoded.points.shape == (0, 3) and decoded.points.dtype == np.float32


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("width", "height"), [(7, 1), (5, 3), (2, 64)])
def test_data_without_padding_are_read_whatever_the_row_step_says(layout, width, height):
    values, message = structured(LAYOUTS[layout], width, height)
    step = message.point_step
    for row_step in (0, 1, step, width, width * height, width * step - 1, width * height * step, 2**32 - 1):
        message.row_step = row_step
        np.testing.assert_array_equal(decode_cloud(message).points, xyz_of(values))


@pytest.mark.parametrize("row_step", [0, 5, 5 * 3 * 12])
def test_bytes_after_the_points_are_ignored(row_step):
    values, message = structured(LAYOUTS["packed"], 5, 3)
    message.data, message.row_step = message.data.tobytes() + bytes(7), row_step
    np.testing.assert_array_equal(decode_cloud(message).points, xyz_of(values))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_last_row_may_lack_its_padding(layout):
    values, message = structured(LAYOUTS[layout], 5, 3, 7)
    message.data = message.data[:-7]
    np.testing.assert_array_equal(decode_cloud(message).points, xyz_of(values))


@pytest.mark.parametrize(
    "extra",
    [
        [field("", 12), field("", 16), field("", 17, 99)],
        [field("rgb", 12), field("rgb", 16, UINT32)],
        [field("intensity", 12), field("intensity", 12), field("x", 0)],
        [field("normal", 4, FLOAT32, 3), field("descriptor", 0, UINT8, 33), field("ring", 90, UINT16)],
        [field("rgb", 12), field("rgba", 12, UINT32), field("strange", 90, 77)],
    ],
    ids=["padding", "two of a name", "declared again", "of any kind", "overlapping"],
)
def test_other_fields_are_ignored(extra):
    data = np.arange(40, dtype=np.uint8)
    points = decode_cloud(cloud([*XYZ, *extra], 20, data, 2)).points
    np.testing.assert_array_equal(points.view(np.uint8), data.reshape(2, 20)[:, :12])


def test_field_declared_twice_is_refused():
    message = cloud([*XYZ, field("t", 12), field("t", 16)], 20, bytes(40), 2)
    with pytest.raises(ValueError, match="'t' is declared twice"):
        decode_field(message, "t")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([], "no field 'x'"),
        (XYZ[:2], "no field 'z'"),
        ([field("X", 0), field("Y", 4), field("Z", 8)], "no field 'x'"),
        ([*XYZ, field("x", 8)], "'x' is declared twice"),
        ([field("x", 0), field("y", 2), field("z", 8)], "'x' and 'y' overlap"),
        ([field("x", 0), field("y", 0), field("z", 0)], "overlap"),
        ([field("x", 0, FLOAT64), field("y", 4), field("z", 8)], "overlap"),
        ([*XYZ, field("intensity", 10)], "'z' and 'intensity' overlap"),
        ([field("x", 0), field("y", 4), field("z", 14)], "'z' takes bytes 14 to 18"),
        ([*XYZ, field("intensity", 16)], "'intensity' takes bytes 16 to 20"),
        ([field("x", 2**32 - 1), field("y", 4), field("z", 8)], "bytes 4294967295"),
        ([field("x", 0, 9), field("y", 4), field("z", 8)], "unknown datatype 9"),
        ([field("x", 0, 0), field("y", 4), field("z", 8)], "unknown datatype 0"),
        ([field("x", 0, INT32), field("y", 4), field("z", 8)], "'x' has datatype 5, expected FLOAT32 .*not known"),
        ([field("x", 0, 3), field("y", 2, 3), field("z", 4, 3)], "'x' has datatype 3, expected FLOAT32"),
        ([field("x", 0, count=3)], "'x' has count 3"),
    ],
)
def test_fields_that_do_not_fit_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        decode_cloud(cloud(fields, 16, np.zeros(32, np.uint8), 2))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (cloud(XYZ, 12, np.zeros(35, np.uint8), 3), "35 bytes, expected 36"),
        (cloud(XYZ, 12, b"", 3), "0 bytes, expected 36"),
        (cloud(XYZ, 12, np.zeros(75, np.uint8), 3, 2, row_step=40), "75 bytes, expected 80 .*, or 72 without padding"),
        (cloud(XYZ, 12, np.zeros(71, np.uint8), 3, 2, row_step=40), "71 bytes, expected 80 .*, or 72 without padding"),
        (cloud(XYZ, 12, np.zeros(71, np.uint8), 3, 2, row_step=0), "71 bytes, expected 72"),
        (cloud(XYZ, 12, np.zeros(72, np.uint8), 6, 0), "6 x 0 points .* data hold 72 bytes; expected both above 0"),
        (cloud(XYZ, 12, np.zeros(72, np.uint8), 0, 1), "0 x 1 points .* height 1 for an unorganised cloud"),
        (cloud(XYZ, 12, np.zeros(72, np.uint8), 6, 6), "72 bytes, expected 432"),
        (cloud(XYZ, 12, np.zeros(8, np.uint8), 2**32 - 1, 2**32 - 1), "8 bytes, expected"),
        (cloud(XYZ, 0, np.zeros(8, np.uint8), 2), "within its 0 bytes"),
        (cloud(XYZ, 8, np.zeros(16, np.uint8), 2), "within its 8 bytes"),
    ],
)
def test_data_that_do_not_fit_the_layout_are_refused(message, words):
    with pytest.raises(ValueError, match=words):
        decode_cloud(message)


def as_message(encoded):
    return cloud(encoded.fields, encoded.point_step, encoded.data, encoded.width)


def labelled(size, intensity=False, seed=0):
    generator = np.random.default_rng(seed)
    points = generator.normal(size=(size, 3)).astype(np.float32)
    labels = generator.choice([0, 3, 9, UNLABELLED], size).astype(np.uint8)
    confidence = generator.random(size, np.float32)
    values = generator.random(size, np.float32) if intensity else None
    return points, labels, confidence, values


@pytest.mark.parametrize("intensity", [False, True])
@pytest.mark.parametrize("size", [0, 1, 8192])
def test_labelled_cloud_is_decoded_as_written(size, intensity):
    points, labels, confidence, values = labelled(size, intensity)
    message = as_message(encode_labelled(points, labels, confidence, OUTDOOR.palette, values))
    decoded = decode_cloud(message)
    np.testing.assert_array_equal(decoded.points, points)
    np.testing.assert_array_equal(decode_field(message, "label"), labels)
    np.testing.assert_array_equal(decode_field(message, "confidence"), confidence)
    assert (decoded.intensity is None) if values is None else np.array_equal(decoded.intensity, values)


def test_fields_of_a_labelled_cloud_are_four_bytes_apart():
    points, labels, confidence, values = labelled(3, intensity=True)
    encoded = encode_labelled(points, labels, confidence, OUTDOOR.palette, values)
    assert [(f.name, f.offset, f.datatype) for f in encoded.fields] == [
        ("x", 0, FLOAT32), ("y", 4, FLOAT32), ("z", 8, FLOAT32), ("intensity", 12, FLOAT32), ("label", 16, UINT8),
        ("confidence", 20, FLOAT32), ("rgb", 24, FLOAT32),
    ]  # fmt: skip
    assert not encoded.data.reshape(3, 28)[:, 17:20].any()
    assert encoded.point_step == 28 and encoded.data.nbytes == 3 * 28 and encoded.data.flags.c_contiguous


def test_colour_is_packed_for_rviz():
    points, _, confidence, _ = labelled(2)
    encoded = encode_labelled(points, np.array([1, UNLABELLED], np.uint8), confidence, OUTDOOR.palette)
    rgb = decode_field(as_message(encoded), "rgb").view(np.uint32)
    for value, label in zip(rgb, (1, UNLABELLED), strict=True):
        assert (value >> 16, value >> 8 & 255, value & 255) == tuple(OUTDOOR.palette[label])


@pytest.mark.parametrize(
    "change",
    [
        dict(points=np.zeros((4, 2))), dict(points=np.zeros(())), dict(labels=np.zeros(3, np.uint8)),
        dict(labels=np.zeros(4, np.int64)), dict(confidence=np.zeros(3)), dict(intensity=np.zeros(3)),
        dict(palette=OUTDOOR.palette[:10]),
    ],
)  # fmt: skip
def test_arrays_of_different_lengths_or_types_are_not_encoded(change):
    points, labels, confidence, values = labelled(4, intensity=True)
    given = dict(points=points, labels=labels, confidence=confidence, palette=OUTDOOR.palette, intensity=values)
    encode_labelled(**given)
    with pytest.raises(ValueError, match="expected"):
        encode_labelled(**given | change)


@pytest.mark.parametrize("size", [0, 5])
def test_plain_cloud_is_decoded_as_written(size):
    points, _, _, values = labelled(size, intensity=True)
    decoded = decode_cloud(as_message(encode_points(points, values)))
    np.testing.assert_array_equal(decoded.points, points)
    np.testing.assert_array_equal(decoded.intensity, values)


@pytest.mark.parametrize(("points", "values"), [((4, 2), (4,)), ((4,), (4,)), ((4, 3), (8,))])
def test_arrays_of_different_lengths_are_not_encoded_to_a_plain_cloud(points, values):
    with pytest.raises(ValueError, match="have shape .*expected"):
        encode_points(np.zeros(points, np.float32), np.zeros(values, np.float32))


@pytest.mark.parametrize("point_step", [16, 48, 128])
def test_padded_cloud_has_zeros_behind_its_fields(point_step):
    points = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    padded = encode_points(points, points[:, 0]).padded(point_step)
    assert (padded.point_step, len(padded.buffer)) == (point_step, 5 * point_step)
    assert np.array_equal(padded.data.reshape(5, point_step)[:, :12].copy().view(np.float32), points)
    assert not padded.data.reshape(5, point_step)[:, 16:].any()


def test_point_step_below_the_fields_is_refused():
    with pytest.raises(ValueError, match="point_step is 8, expected at least the 12 bytes"):
        encode_points(np.zeros((2, 3), np.float32)).padded(8)
