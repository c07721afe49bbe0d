"""What all tests share: one computing thread, a ROS domain of their own, the recorded frames beside the project, and
recordings of a node that is always right."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["toy_world", "live_node", "tiny_models"]

# Before torch is imported, and inherited by the processes that tests start: repeatable sums, and no crowd of threads.
os.environ["OMP_NUM_THREADS"] = "1"

# A script's background job ignores SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DOMAINS = range(1, 102)  # the ROS domains whose UDP ports lie below Linux's ephemeral range


def _claim_domain() -> tuple[int, socket.socket]:
    """A ROS domain that no other test process holds, and the socket that holds it until this process ends.

    The name is an abstract Unix socket's: the kernel gives it to one process of this network namespace (which is as far
    as DDS on the loopback reaches) and takes it back when that process ends, however it ends.
    """
    for domain in DOMAINS:
        holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            holder.bind(f"\0tttkd_ros_test_domain_{domain}")
        except OSError:
            holder.close()
        else:
            return domain, holder
    raise RuntimeError(f"all ROS domains from {DOMAINS[0]} to {DOMAINS[-1]} are held by other test processes")


def _rclpy_is_from_pypi() -> bool:
    try:
        importlib.metadata.distribution("ros-rclpy")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def pytest_configure(config: pytest.Config) -> None:
    """Runs once in each process of pytest-xdist, so that parallel node tests never hear one another."""
    domain, config.tttkd_domain_holder = _claim_domain()
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if _rclpy_is_from_pypi():  # it brings this one middleware only
        os.environ["RMW_IMPLEMENTATION"] = "rmw_fastrtps_cpp"


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """`shared_data(name)`: the folder of a recorded data set, or a skip where this machine has none."""

    def folder(name: str) -> Path:
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"recorded data {name!r} are not at {path}: they may not be distributed with the project")
        return path

    return folder


@pytest.fixture(scope="session")
def record_answers() -> Callable[..., Path]:
    """`record_answers(path, frames)`: a recording in which the node answered each of the frames with its truth.

    arrived(stamp): nanoseconds. reports: (stamp, what ~/adaptation said) of the steps. class_set: what
    ~/label_info said.
    """
    import numpy as np

    from tttkd_ros.bags.writer import BagWriter
    from tttkd_ros.classes import OUTDOOR
    from tttkd_ros.messages.cloud_encoding import encode_labelled
    from tttkd_ros.messages.definitions import standard_types
    from tttkd_ros.messages.stamps import split

    types = standard_types().types

    def header(stamp: int, frame_id: str = ""):
        return types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](*split(stamp)), frame_id)

    def record(path, frames, *, arrived=lambda stamp: stamp, reports=(), frame_id="lidar", class_set=None) -> Path:
        with BagWriter(path) as bag:
            if class_set is not None:
                text = types["std_msgs/msg/String"](class_set.label_info)
                bag.write("/segmenter/label_info", "std_msgs/msg/String", text, arrived(frames[0].stamp))
            for frame in frames:
                certain = np.ones(len(frame.points), np.float32)
                cloud = encode_labelled(frame.points, frame.labels, certain, OUTDOOR.palette)
                message = types["sensor_msgs/msg/PointCloud2"](
                    header=header(frame.stamp, frame_id), height=1, width=cloud.width,
                    fields=[types["sensor_msgs/msg/PointField"](*field) for field in cloud.fields], is_bigendian=False,
                    point_step=cloud.point_step, row_step=cloud.point_step * cloud.width, data=cloud.data,
                    is_dense=True,
                )
                bag.write("/segmenter/points_labeled", "sensor_msgs/msg/PointCloud2", message, arrived(frame.stamp))
            for stamp, told in reports:
                pairs = [types["diagnostic_msgs/msg/KeyValue"](*pair) for pair in told.items()]
                status = types["diagnostic_msgs/msg/DiagnosticStatus"](0, "", "", "", pairs)
                report = types["diagnostic_msgs/msg/DiagnosticArray"](header(stamp), [status])
                bag.write("/segmenter/adaptation", "diagnostic_msgs/msg/DiagnosticArray", report, arrived(stamp))
        return path

    return record
