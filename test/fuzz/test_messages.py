"""Message codecs: damaged serialised messages, and messages with damaged fields."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tttkd_ros.bags import topics
from tttkd_ros.bags.transforms import parse_transform
from tttkd_ros.messages.calibrated_camera import Calibration
from tttkd_ros.messages.cloud_encoding import encode_labelled, encode_points
from tttkd_ros.messages.definitions import deserialise, standard_types
from tttkd_ros.messages.encodings import PIXEL_BYTES, PLANES
from tttkd_ros.messages.image import decode_image
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field
from tttkd_ros.messages.point_times import MAX_OFFSET_S, point_times, with_times
from tttkd_ros.messages.stamps import SECOND, stamp_of_raw

from .conftest import fuzz
from .strategies import mutated_bytes, mutated_message

TYPES = {
    "cloud": topics.CLOUD, "times": topics.CLOUD, "image": topics.IMAGE, "compressed": topics.COMPRESSED,
    "camera_info": topics.CAMERA_INFO, "transforms": topics.TRANSFORMS,
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", TYPES)


@pytest.fixture(scope="module")
def originals(records, decode):
    """`originals(kind)`: valid messages."""
    types = standard_types().types
    cloud, truth, image, info, transforms = (
        decode(kind, records[topic].data)
        for kind, topic in (
            (topics.CLOUD, topics.POINTS_TOPIC), (topics.CLOUD, topics.TRUTH_TOPIC),
            (topics.IMAGE, "/camera_front/image"), (topics.CAMERA_INFO, "/camera_front/camera_info"),
            (topics.TRANSFORMS, topics.STATIC_TOPIC),
        )
    )  # fmt: skip
    field_type = types["sensor_msgs/msg/PointField"]

    def cloud_of(fields: dict[str, tuple[int, np.ndarray]]):
        """A cloud of these columns: ROS datatype and values by name."""
        (order,) = {values.dtype.byteorder for _, values in fields.values()}
        table = np.rec.fromarrays([values for _, values in fields.values()], names=list(fields))
        message_fields = [
            field_type(name=name, offset=table.dtype.fields[name][1], datatype=datatype, count=1)
            for name, (datatype, _) in fields.items()
        ]
        return dataclasses.replace(
            cloud, fields=message_fields, is_bigendian=order == ">", point_step=table.itemsize, row_step=table.nbytes,
            data=np.frombuffer(table.tobytes(), np.uint8),
        )  # fmt: skip

    offsets = np.linspace(0, 0.1, 20)
    dates = cloud.header.stamp.sec + cloud.header.stamp.nanosec / SECOND + offsets
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    encoded = [
        cv2.imencode(".jpg", pixels), cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        cv2.imencode(".png", pixels), cv2.imencode(".png", pixels[..., 0].astype(np.uint16) * 257),
    ]  # fmt: skip
    lenses = {"rational_polynomial": [0.1, 0.01, 0.001, 0.001, 0.0, 0.1, 0.1, 0.0], "equidistant": [0.1, 0.01, 0, 0]}
    messages = {
        "cloud": [
            cloud, truth, dataclasses.replace(cloud, height=4, width=5, row_step=len(cloud.data) // 4),
            cloud_of({name: (8, np.arange(20, dtype=">f8")) for name in "xyz"}),
        ],
        "times": [cloud_of({name: (datatype, values.astype(code))}) for name, datatype, code, values in (
            ("t", 6, "<u4", offsets * 1e9), ("time", 7, "<f4", offsets - 0.1), ("timestamp", 8, "<f8", dates),
            ("timestamp", 8, "<f8", dates * 1e9), ("time_stamp", 5, ">i4", offsets * 1e9),
        )],
        "image": [
            dataclasses.replace(
                image, encoding=encoding, step=8 * size,
                data=np.resize(pixels, int(6 * PLANES.get(encoding, 1)) * 8 * size),
            )
            for encoding, size in PIXEL_BYTES.items()
        ],
        "compressed": [
            types[topics.COMPRESSED](header=image.header, format="jpeg", data=data.ravel()) for _, data in encoded
        ],
        "camera_info": [info, *(
            dataclasses.replace(info, distortion_model=model, d=np.array(d, np.float64)) for model, d in lenses.items()
        )],
        "transforms": [transforms],
    }  # fmt: skip
    return messages.__getitem__


def check(kind: str, message) -> None:
    """Decode a message and check the result."""
    if kind == "cloud":
        cloud, size = decode_cloud(message), message.width * message.height
        assert cloud.points.shape == (size, 3)
        assert cloud.intensity is None or cloud.intensity.copy().shape == (size,)
        for field in message.fields:
            decode_field(message, field.name).copy()
    if kind in ("cloud", "times"):
        times = point_times(message)
        if times is not None:
            assert times.shape == (message.width * message.height,)
            assert times.dtype == np.float64
            assert (np.abs(times) <= MAX_OFFSET_S).all()
    if kind in ("image", "compressed"):
        image = decode_image(message)
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)
        assert kind == "compressed" or image.shape[:2] == (message.height, message.width)
    if kind == "camera_info":
        camera = Calibration.read(message).full
        points = torch.tensor([[0.0, 0, 1], [1, 2, 3], [0, 0, -1], [0, 0, 0], [1e30, 0, 1e-30]])
        pixels, valid = camera.project(points)
        assert (pixels[valid] >= 0).all()
        assert (pixels[valid, 0] < camera.width).all()
    if kind == "transforms":
        for transform in message.transforms:
            assert np.isfinite(parse_transform(transform)[2]).all()


def serialise(kind: str, message) -> bytes:
    return bytes(standard_types().serialize_cdr(message, TYPES[kind]))


@kinds
@fuzz
def test_damaged_fields(data, attempt, originals, kind):
    message = data.draw(mutated_message(*originals(kind)))
    with attempt:
        check(kind, message)


@kinds
@fuzz
def test_damaged_bytes(data, attempt, originals, decode, kind):
    cdr = data.draw(mutated_bytes(*(serialise(kind, message) for message in originals(kind))))
    with attempt:
        if kind in ("image", "compressed"):
            check(kind, deserialise(cdr, TYPES[kind]))
        else:
            check(kind, decode(TYPES[kind], cdr))


@pytest.mark.parametrize("kind", ["cloud", "image"])
@fuzz
def test_damaged_fields_in_messages_of_rclpy(data, attempt, originals, kind):
    serialization = pytest.importorskip("rclpy.serialization")
    from sensor_msgs import msg

    try:
        cdr = serialise(kind, data.draw(mutated_message(*originals(kind))))
    except Exception:  # rosbags raises many kinds for values that a field cannot hold
        reject()
    message = serialization.deserialize_message(cdr, {"cloud": msg.PointCloud2, "image": msg.Image}[kind])
    with attempt:
        check(kind, message)


@fuzz
def test_damaged_headers(data, attempt, records):
    cdr = data.draw(mutated_bytes(*(record.data[:40] for record in records.values())))
    with attempt:
        assert -(2**31) * 10**9 <= stamp_of_raw(cdr) < 2**31 * 10**9 + 2**32


ENCODERS = {  # the columns, where N is the number of points, and the encoder
    "labelled": (["f4 N 3", "u1 N", "f4 N", "u1 256 3", "f4 N"], encode_labelled),
    "points": (["f4 N 3", "f4 N"], encode_points),
    "times": (["f8 N"], lambda times: with_times(encode_points(np.zeros((times.size % 5, 3), np.float32)), times)),
}


@pytest.mark.parametrize("encoder", ENCODERS)
@fuzz
def test_arrays_to_encode(data, attempt, encoder):
    columns, encode = ENCODERS[encoder]
    size, arrays = data.draw(st.integers(0, 4)), []
    for column in columns:
        dtype, *shape = column.split()
        if data.draw(st.integers(0, 5)) == 5:
            dtype = data.draw(st.sampled_from(["f4", "u1", "i4", "f8", "?", ">f4", "c8"]))
            shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_side=3))
        arrays.append(data.draw(hnp.arrays(dtype, [size if length == "N" else int(length) for length in shape])))
    with attempt:
        encoded = encode(*arrays)
        assert len(encoded.buffer) == encoded.width * encoded.point_step
