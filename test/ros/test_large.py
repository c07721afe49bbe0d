"""Clouds and images of real sizes reach the node over DDS."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

pytestmark = pytest.mark.timeout(900)  # on a machine with other things to do

SWEEPS, RATE = 20, 10.0
CAMERAS = [f"camera_{side}" for side in ("front", "front_left", "front_right", "rear", "rear_left", "rear_right")]


@pytest.fixture(scope="module")
def seen(start_node, models, ros, tmp_path_factory):
    """The node's last diagnostics, by status, after two seconds of six cameras and a LiDAR."""
    rig = tmp_path_factory.mktemp("rig") / "rig.yaml"
    place = "{camera_from_lidar: {matrix: [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]}}"
    rig.write_text("cameras:\n" + "".join(f"  {camera}: {place}\n" for camera in CAMERAS))
    parameters = {"model": str(models.student), "teacher": "", "cameras": CAMERAS, "rig": str(rig),
                  "motion.fixed_frame": "", "qos.depth": SWEEPS}  # on a busy machine the node may be seconds behind
    node = start_node(parameters, "-r", "__node:=loaded")
    node.wait_for("active: waiting for sweeps", 200)
    talker = ros.Talker("loaded")
    sender = [sys.executable, str(Path(__file__).with_name("large_sender.py")), str(SWEEPS), str(RATE), *CAMERAS]
    with subprocess.Popen(sender) as process:
        talker.until(lambda: process.poll() is not None, 200)
    assert process.returncode == 0
    said = {}

    def settled() -> bool:
        before = dict(said)
        count = len(talker.heard["/diagnostics"])
        talker.until(lambda: len(talker.heard["/diagnostics"]) > count)
        for status in talker.heard["/diagnostics"][-1].status:
            said[status.name.rpartition(" ")[2]] = ros.values(status)
        counts = {what: int(said["sweeps"][f"sweeps {what}"]) for what in ("in", "out", "dropped")}
        return said["inputs"] == before.get("inputs") and counts["in"] == counts["out"] + counts["dropped"]

    talker.until(settled, 100)
    talker.close()
    assert node.end() == 0
    return said


def test_every_image_arrives(seen):
    received = {camera: int(seen["inputs"][f"/{camera}/image received"]) for camera in CAMERAS}
    assert received == dict.fromkeys(CAMERAS, SWEEPS)


def test_every_cloud_is_answered_or_counted_as_dropped(seen):
    sweeps = {what: int(seen["sweeps"][f"sweeps {what}"]) for what in ("in", "out", "dropped", "undecodable", "failed")}
    assert sweeps["in"] == SWEEPS
    assert sweeps["out"] + sweeps["dropped"] == SWEEPS
    assert sweeps["out"] > 0


def test_nothing_is_lost_on_the_way(seen):
    assert {int(value) for name, value in seen["inputs"].items() if name.endswith(" lost")} == {0}
