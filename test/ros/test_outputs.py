from __future__ import annotations

import array

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from sensor_msgs.msg import PointCloud2, PointField  # noqa: E402

from tttkd_ros.adaptation.adapter import StepReport  # noqa: E402
from tttkd_ros.classes import OUTDOOR  # noqa: E402
from tttkd_ros.messages.image import decode_image  # noqa: E402
from tttkd_ros.messages.point_cloud import decode_cloud  # noqa: E402
from tttkd_ros.ros import outputs  # noqa: E402


@pytest.mark.parametrize(
    ("outcome", "level", "message"),
    [
        ({"accepted": True}, DiagnosticStatus.OK, "accepted"),
        ({"accepted": False, "reason": "too few points"}, DiagnosticStatus.WARN, "too few points"),
        ({"accepted": False, "reason": "enough learnt", "skipped": True}, DiagnosticStatus.OK, "enough learnt"),
    ],
)
def test_a_step_that_was_refused_is_a_warning_and_one_that_was_not_needed_is_none(outcome, level, message):
    (status,) = outputs.adaptation(StepReport(stamp=0, version=0, **outcome), "segmenter").status
    assert (status.level, status.message) == (level, message)
    told = {pair.key: pair.value for pair in status.values}
    assert told["skipped"] == ("true" if "skipped" in outcome else "false")


@pytest.mark.parametrize(("height", "width"), [(1, 6), (2, 3), (0, 5)])
@pytest.mark.parametrize("intensity", [False, True])
def test_sensor_msgs_py_reads_the_labelled_cloud(height, width, intensity):
    point_cloud2 = pytest.importorskip("sensor_msgs_py.point_cloud2")
    names, size = ("x", "y", "z", "intensity")[: 4 if intensity else 3], height * width
    values = np.random.default_rng(0).random((size, len(names)), np.float32)
    sweep = PointCloud2(
        height=height, width=width, point_step=4 * len(names), row_step=4 * len(names) * width,
        data=array.array("B", values.tobytes()), fields=[
            PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
            for index, name in enumerate(names)
        ],
    )  # fmt: skip
    labels, confidence = np.arange(size).astype(np.uint8), np.linspace(0, 1, size, dtype=np.float32)
    answer = outputs.labelled_cloud(sweep, decode_cloud(sweep), labels, confidence, OUTDOOR.palette)
    read = point_cloud2.read_points(answer)
    assert read.dtype.names == (*names, "label", "confidence", "rgb")
    np.testing.assert_array_equal(np.stack([read[name] for name in names], 1), values)
    np.testing.assert_array_equal(read["label"], labels)
    np.testing.assert_array_equal(read["confidence"], confidence)
    colours = read["rgb"].view(np.uint32)
    np.testing.assert_array_equal(np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1),
                                  OUTDOOR.palette[labels])


@pytest.mark.parametrize("shape", [(1, 1, 3), (4, 6, 3), (7, 5, 3)])
def test_an_overlay_is_read_back_as_drawn(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    message = outputs.image_message(image, 1_500_000_002, "camera")
    assert (message.header.frame_id, message.header.stamp.sec, message.encoding) == ("camera", 1, "rgb8")
    np.testing.assert_array_equal(decode_image(message), image)
