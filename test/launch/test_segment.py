"""`segment.launch.py` as `ros2 launch` runs it: the node comes up active, and a published cloud comes out labelled.

Needs launch, launch_ros and launch_testing, which come with a ROS distribution, and the package installed into a prefix
on AMENT_PREFIX_PATH.
"""

from __future__ import annotations

import tempfile
import time
import unittest
from pathlib import Path

import pytest

for module in ("rclpy", "launch_ros", "launch_testing", "launch_testing_ros"):
    pytest.importorskip(module, reason="comes with a ROS distribution")

import launch_testing  # noqa: E402
import rclpy  # noqa: E402
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory  # noqa: E402
from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_testing.actions import ReadyToTest  # noqa: E402
from launch_testing.asserts import assertExitCodes  # noqa: E402
from lifecycle_msgs.msg import State  # noqa: E402
from lifecycle_msgs.srv import GetState  # noqa: E402
from sensor_msgs.msg import PointCloud2, PointField  # noqa: E402

from launch import LaunchDescription  # noqa: E402
from tttkd_ros.segmenter.checkpoint import save_student  # noqa: E402
from tttkd_ros.segmenter.student import Student, StudentConfig  # noqa: E402

try:
    SHARE = Path(get_package_share_directory("tttkd_ros"))
except (PackageNotFoundError, LookupError):
    pytest.skip("tttkd_ros is in no prefix on AMENT_PREFIX_PATH", allow_module_level=True)

PARAMETERS = """/**:
  ros__parameters:
    cameras: ['']
    qos.reliability: reliable
"""


@pytest.mark.launch_test
def generate_test_description():
    folder = Path(tempfile.mkdtemp(prefix="tttkd_ros_launch_"))
    model = folder / "student.safetensors"
    student = Student(StudentConfig(options=dict(channels=4, levels=2), voxel_size=0.5))
    save_student(student, model, {"made": "for a test"})
    (folder / "parameters.yaml").write_text(PARAMETERS)
    arguments = {"model": str(model), "params_file": str(folder / "parameters.yaml"), "points": "/velodyne_points"}
    launch_file = PythonLaunchDescriptionSource(str(SHARE / "launch/segment.launch.py"))
    return LaunchDescription([
        IncludeLaunchDescription(launch_file, launch_arguments=arguments.items()),
        ReadyToTest(),
    ])


class TestLaunched(unittest.TestCase):
    def setUp(self):
        rclpy.init()
        self.node = rclpy.create_node("tester")

    def tearDown(self):
        self.node.destroy_node()
        rclpy.shutdown()

    def until(self, condition, seconds=60.0):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            rclpy.spin_once(self.node, timeout_sec=0.05)

    def state(self, client) -> int:
        future = client.call_async(GetState.Request())
        self.until(future.done)
        return future.result().current_state.id

    def test_a_cloud_published_on_the_argument_s_topic_comes_out_labelled(self):
        client = self.node.create_client(GetState, "/segmenter/get_state")
        self.until(client.service_is_ready)
        self.until(lambda: self.state(client) == State.PRIMARY_STATE_ACTIVE)
        answers = []
        self.node.create_subscription(PointCloud2, "/segmenter/points_labeled", answers.append, 10)
        publisher = self.node.create_publisher(PointCloud2, "/velodyne_points", 10)
        self.until(publisher.get_subscription_count)
        sent = PointCloud2(height=1, width=2, point_step=12, row_step=24, data=bytes(24), is_dense=True)
        sent.header.frame_id = "velodyne"
        sent.fields = [PointField(name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")]

        def answered() -> bool:  # again until it is: the node may match with us later than we with it
            publisher.publish(sent)
            return bool(answers)

        self.until(answered)
        self.assertEqual((answers[0].header, answers[0].width), (sent.header, 2))
        self.assertIn("label", [field.name for field in answers[0].fields])


@launch_testing.post_shutdown_test()
class TestShutDown(unittest.TestCase):
    def test_the_node_ends_cleanly(self, proc_info):
        assertExitCodes(proc_info)
