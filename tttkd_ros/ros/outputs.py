"""What the node publishes, as messages; made from plain values, so none of it needs a running node."""

from __future__ import annotations

import array
from collections.abc import Mapping

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.messages.cloud_encoding import encode_labelled
from tttkd_ros.messages.point_cloud import Cloud
from tttkd_ros.messages.stamps import split


def labelled_cloud(msg, cloud: Cloud, labels: np.ndarray, confidence: np.ndarray, palette: np.ndarray,
                   seen: np.ndarray | None = None) -> PointCloud2:
    """Encode the input's points, in its order and shape, with its stamp and frame.

    Args:
        msg: the input, any object with the attributes of a PointCloud2.
        cloud: the input, decoded.
        labels: (N,) uint8.
        confidence: (N,) float32.
        palette: (256, 3) uint8, the colour of each label.
        seen: (N,) bool, the points whose label rests on an image, too; None for a student without injection.
    """
    encoded = encode_labelled(cloud.points, labels, confidence, palette, cloud.intensity, seen)
    stamp = Time(sec=msg.header.stamp.sec, nanosec=msg.header.stamp.nanosec)
    return PointCloud2(
        header=Header(stamp=stamp, frame_id=msg.header.frame_id),
        height=msg.height,
        width=msg.width,
        fields=[
            PointField(name=name, offset=offset, datatype=datatype, count=count)
            for name, offset, datatype, count in encoded.fields
        ],
        is_bigendian=False,
        point_step=encoded.point_step,
        row_step=encoded.point_step * msg.width if encoded.width else 0,  # an empty cloud may claim any width
        data=encoded.buffer,
        is_dense=bool(np.isfinite(cloud.points).all()),
    )


def adaptation(report: StepReport, name: str) -> DiagnosticArray:
    """A step's outcome at the stamp of its sweep: WARN if it was rejected, OK if it was accepted or not needed.

    Args:
        name: of the node.
    """
    values = {
        "accepted": report.accepted,
        "reason": report.reason,
        "version": report.version,
        "loss": report.loss,
        "cosine": report.cosine,
        "alignment": report.alignment,
        "gradient_norm": report.gradient_norm,
        "bn_updated": report.bn_updated,
        "paused": report.paused,
        "skipped": report.skipped,
        "distrusted": report.distrusted,
        "points": report.points,
        "steps": report.steps,
        "learning_rate": report.learning_rate,
        "stride": report.stride,
        "cameras": ",".join(report.cameras),
        "ages": ",".join(f"{age:.3f}" for age in report.ages),
        "seconds": report.seconds,
    }
    level = DiagnosticStatus.WARN if report.outcome == "rejected" else DiagnosticStatus.OK
    message = "accepted" if report.accepted else report.reason
    return diagnostics(stamp_message(report.stamp), [status(f"{name}: adaptation", level, message, values)])


def status(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=_text(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, hardware_id="tttkd_ros", values=pairs)


def diagnostics(stamp: Time, statuses: list[DiagnosticStatus]) -> DiagnosticArray:
    return DiagnosticArray(header=Header(stamp=stamp), status=statuses)


def image_message(image: np.ndarray, stamp: int, frame_id: str) -> Image:
    """Encode an RGB image (H, W, 3) uint8; stamp: nanoseconds."""
    height, width = image.shape[:2]
    data = array.array("B", np.ascontiguousarray(image).tobytes())  # rclpy would check any other type byte by byte
    header = Header(stamp=stamp_message(stamp), frame_id=frame_id)
    return Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width, data=data)


def stamp_message(stamp: int) -> Time:
    """stamp: nanoseconds."""
    sec, nanosec = split(stamp)
    return Time(sec=sec, nanosec=nanosec)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
