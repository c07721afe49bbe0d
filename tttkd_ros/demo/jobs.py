"""Parts of the demo that need no ROS and run in a process pool: simulated drives and controls."""

from __future__ import annotations

from pathlib import Path

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.evaluation.drives import BagDrive
from tttkd_ros.evaluation.models import load_models
from tttkd_ros.evaluation.replay import RunConfig, replay
from tttkd_ros.evaluation.result import Result
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.rig import RigCamera, save_rig
from tttkd_ros.simulation.drive import frames

WORLD = "kitti"


def simulate(seed: int, sweeps: int, bag: Path, point_step: int = 0) -> None:
    """Write one drive of the target world, and its rig beside the bag. point_step: as for `BagWriter`."""
    with BagWriter(bag, point_step=point_step) as writer:
        for frame in frames(WORLD, seed, sweeps):
            writer.write_frame(frame)
    write_rig(bag, frame)


def rig_path(bag: Path) -> Path:
    return bag.with_name(bag.name + "_rig.yaml")


def write_rig(bag: Path, frame: Frame) -> None:
    """Write the rig of a frame's cameras beside the bag."""
    save_rig(rig_path(bag), {view.name: RigCamera(view.camera_from_lidar, view.camera) for view in frame.views})


def control(bag: Path, model: Path, teacher: Path, run: RunConfig) -> Result:
    """Replay one control in process."""
    return replay(BagDrive(bag), *load_models(model, str(teacher), with_teacher=run.adapts), run)
