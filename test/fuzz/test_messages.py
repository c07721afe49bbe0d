"""Codecs of messages: as serialised bytes, and field by field."""

from __future__ import annotations

import array
import importlib
import math

import cv2
import numpy as np
import pytest
import torch

from tttkd_ros.bags import topics
from tttkd_ros.bags.transforms import parse_transform
from tttkd_ros.messages.camera_info import Calibration
from tttkd_ros.messages.cloud_encoding import encode_labelled, encode_points
from tttkd_ros.messages.definitions import deserialise, standard_types
from tttkd_ros.messages.encodings import PIXEL_BYTES, PLANES
from tttkd_ros.messages.image import decode_image
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field
from tttkd_ros.messages.point_times import MAX_OFFSET_S, point_times, with_times
from tttkd_ros.messages.stamps import SECOND, stamp_of_raw

from . import inputs


def as_rclpy(tree: dict, kind: str):
    """The same message as rclpy has it. Raises ValueError for what its classes refuse, which cannot arrive either."""
    package, _, name = kind.split("/")
    message = getattr(importlib.import_module(f"{package}.msg"), name)()
    types = message.get_fields_and_field_types()
    for field, value in tree.items():
        if isinstance(value, dict):
            value = as_rclpy(value, types[field].replace("/", "/msg/"))
        elif isinstance(value, bytes):
            value = array.array("B", value)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            inner = types[field].removeprefix("sequence<").removesuffix(">").replace("/", "/msg/")
            value = [as_rclpy(each, inner) for each in value]
        try:
            setattr(message, field, value)
        except AssertionError as error:
            raise ValueError(str(error)) from error
    return message


def take_cloud(message) -> None:
    cloud = decode_cloud(message)
    size = message.width * message.height
    assert cloud.points.shape == (size, 3)
    if cloud.intensity is not None:
        assert cloud.intensity.copy().shape == (size,)  # all of it can be read
    for field in message.fields:
        decode_field(message, field.name).copy()
    point_times(message)


def take_times(message) -> None:
    times = point_times(message)
    if times is not None:
        assert times.shape == (message.width * message.height,) and times.dtype == np.float64
        assert (np.abs(times) <= MAX_OFFSET_S).all()


def take_image(message) -> None:
    image = decode_image(message)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    if not hasattr(message, "format"):
        assert image.shape[:2] == (message.height, message.width)


def take_camera(message) -> None:
    camera = Calibration.read(message).full
    pixels, valid = camera.project(torch.tensor([[0.0, 0, 1], [1, 2, 3], [0, 0, -1], [0, 0, 0], [1e30, 0, 1e-30]]))
    assert (pixels[valid] >= 0).all() and (pixels[valid, 0] < camera.width).all()


def take_transforms(message) -> None:
    for stamped in message.transforms:
        assert np.isfinite(parse_transform(stamped)[2]).all()


@pytest.fixture(scope="module")
def clouds(records, decode):
    """Trees of a sweep with times, of its truth, of one in rows and of one of doubles in the other byte order."""
    sweep, truth = (inputs.as_tree(decode(topics.CLOUD, records[topic].data))
                    for topic in (topics.POINTS_TOPIC, topics.TRUTH_TOPIC))
    rows = sweep | {"height": 4, "width": 5, "row_step": len(sweep["data"]) // 4}
    fields = [{"name": name, "offset": 8 * place, "datatype": 8, "count": 1} for place, name in enumerate("xyz")]
    doubles = sweep | {"fields": fields, "is_bigendian": True, "point_step": 24, "row_step": 24 * 20,
                       "data": np.arange(60, dtype=">f8").tobytes()}
    return [sweep, truth, rows, doubles]


@pytest.fixture(scope="module")
def timed(clouds):
    """Trees of clouds that tell times as drivers do: offsets and dates, in seconds and in nanoseconds."""
    sweep, offsets, made = clouds[0], np.linspace(0, 0.1, 20), []
    start = sweep["header"]["stamp"]["sec"] + sweep["header"]["stamp"]["nanosec"] / SECOND
    for name, datatype, kind, values in [
        ("t", 6, "<u4", offsets * 1e9), ("time", 7, "<f4", offsets - 0.1), ("timestamp", 8, "<f8", start + offsets),
        ("timestamp", 8, "<f8", (start + offsets) * 1e9), ("time_stamp", 5, ">i4", offsets * 1e9),
    ]:  # fmt: skip
        data = values.astype(kind).tobytes()
        step = len(data) // len(values)
        field = {"name": name, "offset": 0, "datatype": datatype, "count": 1}
        made.append(sweep | {"fields": [field], "is_bigendian": kind[0] == ">", "point_step": step,
                             "row_step": len(data), "data": data})
    return made


@pytest.fixture(scope="module")
def images(records, decode):
    """Trees of an image in every encoding."""
    tree = inputs.as_tree(decode(topics.IMAGE, records["/camera_front/image"].data))
    made = []
    for encoding, pixel in PIXEL_BYTES.items():
        rows = int(6 * PLANES.get(encoding, 1))
        data = np.random.default_rng(0).bytes(rows * 8 * pixel)
        made.append(tree | {"encoding": encoding, "step": 8 * pixel, "data": data})
    return made


@pytest.fixture(scope="module")
def compressed(images):
    """Trees of a JPEG, a progressive one and PNGs."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
    encoded = [cv2.imencode(".jpg", pixels), cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
               cv2.imencode(".png", pixels), cv2.imencode(".png", pixels[..., 0].astype(np.uint16) * 257)]
    return [{"header": images[0]["header"], "format": "jpeg", "data": data.tobytes()} for _, data in encoded]


@pytest.fixture(scope="module")
def infos(records, decode):
    """Trees of a CameraInfo of every distortion model."""
    tree = inputs.as_tree(decode(topics.CAMERA_INFO, records["/camera_front/camera_info"].data))
    lenses = {"rational_polynomial": [0.1, 0.01, 0.001, 0.001, 0.0, 0.1, 0.1, 0.0], "equidistant": [0.1, 0.01, 0, 0.0]}
    return [tree, *(tree | {"distortion_model": model, "d": numbers} for model, numbers in lenses.items())]


def serialised(tree: dict, kind: str) -> bytes:
    types = standard_types()

    def made(tree: dict, kind: str):
        content = {}
        for name, description in types.fielddefs[kind][1]:
            value = tree[name]
            if isinstance(value, dict):
                value = made(value, description[1])
            elif isinstance(value, bytes):
                value = np.frombuffer(value, np.uint8)
            elif isinstance(value, list) and value and isinstance(value[0], dict):
                value = [made(each, description[1][0][1]) for each in value]
            elif isinstance(value, list):
                value = np.array(value, np.float64)
            content[name] = value
        return types.types[kind](**content)

    return bytes(types.serialize_cdr(made(tree, kind), kind))


def test_clouds_by_their_fields(fuzz, clouds):
    fuzz(inputs.message(*clouds), lambda tree: take_cloud(inputs.as_object(tree)))


def test_clouds_of_rclpy(fuzz, clouds):
    pytest.importorskip("rclpy")
    fuzz(inputs.message(*clouds), lambda tree: take_cloud(as_rclpy(tree, topics.CLOUD)))


def test_serialised_clouds(fuzz, clouds, decode):
    wholes = [serialised(tree, topics.CLOUD) for tree in clouds]
    fuzz(inputs.damaged(*wholes), lambda cdr: take_cloud(decode(topics.CLOUD, cdr)))


def test_times_by_their_fields(fuzz, timed):
    fuzz(inputs.message(*timed), lambda tree: take_times(inputs.as_object(tree)))


def test_serialised_times(fuzz, timed, decode):
    wholes = [serialised(tree, topics.CLOUD) for tree in timed]
    fuzz(inputs.damaged(*wholes), lambda cdr: take_times(decode(topics.CLOUD, cdr)))


def test_images_by_their_fields(fuzz, images):
    fuzz(inputs.message(*images), lambda tree: take_image(inputs.as_object(tree)))


def test_images_of_rclpy(fuzz, images):
    pytest.importorskip("rclpy")
    fuzz(inputs.message(*images), lambda tree: take_image(as_rclpy(tree, topics.IMAGE)))


def test_serialised_images(fuzz, images):
    wholes = [serialised(tree, topics.IMAGE) for tree in images]
    fuzz(inputs.damaged(*wholes), lambda cdr: decode_image(deserialise(cdr, topics.IMAGE)))


def test_compressed_images(fuzz, compressed):
    wholes = [tree["data"] for tree in compressed]
    fuzz(inputs.damaged(*wholes), lambda data: take_image(inputs.as_object(compressed[0] | {"data": data})))


def test_serialised_compressed_images(fuzz, compressed):
    wholes = [serialised(tree, topics.COMPRESSED) for tree in compressed]
    fuzz(inputs.damaged(*wholes), lambda cdr: decode_image(deserialise(cdr, topics.COMPRESSED)))


def test_stamps_of_serialised_messages(fuzz, records):
    def take(cdr: bytes) -> None:
        assert -(2**31) * 10**9 <= stamp_of_raw(cdr) < 2**31 * 10**9 + 2**32

    fuzz(inputs.damaged(*(record.data[:40] for record in records.values())), take)


def test_camera_infos_by_their_fields(fuzz, infos):
    fuzz(inputs.message(*infos), lambda tree: take_camera(inputs.as_object(tree)))


def test_serialised_camera_infos(fuzz, infos, decode):
    wholes = [serialised(tree, topics.CAMERA_INFO) for tree in infos]
    fuzz(inputs.damaged(*wholes), lambda cdr: take_camera(decode(topics.CAMERA_INFO, cdr)))


def test_transforms_by_their_fields(fuzz, records, decode):
    tree = inputs.as_tree(decode(topics.TRANSFORMS, records[topics.STATIC_TOPIC].data))
    fuzz(inputs.message(tree), lambda tree: take_transforms(inputs.as_object(tree)))


def test_serialised_transforms(fuzz, records, decode):
    whole = records[topics.STATIC_TOPIC].data
    fuzz(inputs.damaged(whole), lambda cdr: take_transforms(decode(topics.TRANSFORMS, cdr)))


def arrays(*shapes: tuple[int | None, ...]):
    """Makes arrays of these shapes (None: one number for all), of types that fit or do not, some of other shapes."""
    kinds = ("u1", "u1", "f4", "f4", "i4", "f8", "?", ">f4", "c8")

    def array_of(tape, *shape: int) -> np.ndarray:
        kind = np.dtype(tape.choose(kinds))
        filled = np.resize(np.frombuffer(tape.take(8), np.uint8), math.prod(shape) * kind.itemsize)
        return filled.view(kind).reshape(shape)[:: 1 - 2 * tape.below(2)] if shape else np.zeros((), kind)

    def make(tape) -> list[np.ndarray]:
        size = tape.below(5)
        made = [tuple(size if length is None else length for length in shape) for shape in shapes]
        while tape.below(3):
            made[tape.below(len(made))] = tuple(tape.below(4) for _ in range(tape.below(4)))
        return [array_of(tape, *shape) for shape in made]

    return make


def test_predictions_to_be_encoded(fuzz):
    def take(given) -> None:
        *needed, intensity = given
        for encoded in (encode_labelled(*needed), encode_labelled(*needed, intensity)):
            assert len(encoded.buffer) == encoded.width * encoded.point_step

    fuzz(arrays((None, 3), (None,), (None,), (256, 3), (None,)), take)


def test_sweeps_to_be_encoded(fuzz):
    def take(given) -> None:
        points, intensity = given
        for encoded in (encode_points(points), encode_points(points, intensity)):
            assert len(encoded.buffer) == encoded.width * encoded.point_step

    fuzz(arrays((None, 3), (None,)), take)


def test_times_to_be_encoded(fuzz):
    clouds = [encode_points(np.zeros((size, 3), np.float32)) for size in range(5)]

    def take(given) -> None:
        (times,) = given
        encoded = with_times(clouds[times.size % 5], times)
        assert len(encoded.buffer) == encoded.width * encoded.point_step

    fuzz(arrays((None,)), take)
