"""A LiDAR and cameras that send large messages, as a process of its own: `large_sender.py SWEEPS HZ CAMERA...`."""

from __future__ import annotations

import array
import sys
import time

import numpy as np
import rclpy
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField

from tttkd_ros.fastdds import use_profile

QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
POINTS, STEP = 300_000, 20  # 6 MB
WIDTH, HEIGHT = 1024, 683  # 2.1 MB of rgb8


def main(sweeps: int, rate: float, cameras: list[str]) -> None:
    use_profile()
    rclpy.init()
    node = rclpy.create_node("large_sender")
    points = node.create_publisher(PointCloud2, "/lidar/points", QOS)
    images = [node.create_publisher(Image, f"/{camera}/image", QOS) for camera in cameras]
    raw = np.zeros((POINTS, STEP), np.uint8)
    places = np.random.default_rng(0).normal(0, 3, (POINTS, 3)).astype("<f4")
    raw[:, :12] = places.view(np.uint8).reshape(POINTS, 12)
    cloud = PointCloud2(height=1, width=POINTS, point_step=STEP, row_step=raw.size, is_dense=True)
    cloud.fields = [PointField(name=name, offset=4 * place, datatype=7, count=1) for place, name in enumerate("xyz")]
    cloud.data = array.array("B", raw.tobytes())
    image = Image(width=WIDTH, height=HEIGHT, step=3 * WIDTH, encoding="rgb8")
    image.data = array.array("B", bytes(3 * WIDTH * HEIGHT))
    cloud.header.frame_id, image.header.frame_id = "lidar", "camera"
    while not all(publisher.get_subscription_count() for publisher in (points, *images)):
        time.sleep(0.05)
    time.sleep(1.0)  # the other side may match later
    start = time.monotonic()
    for number in range(sweeps):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        for message in (cloud, image):
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(10**12 + round(number * 1e9 / rate), 10**9)
        for publisher in images:
            publisher.publish(image)
        points.publish(cloud)
    for publisher in (points, *images):
        publisher.wait_for_all_acked(Duration(seconds=20))
    rclpy.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
