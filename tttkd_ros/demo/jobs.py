"""The demo's work that needs no ROS, as functions that a pool of processes can run."""

from __future__ import annotations

from pathlib import Path

from tttkd_ros.evaluation.result import Result

WORLD = "kitti"
SOURCE = "a2d2"


def simulate(seed: int, sweeps: int, bag: Path, point_step: int = 0) -> None:
    """Write one drive of the target world, and beside the bag its rig. point_step: as `BagWriter`'s."""
    from tttkd_ros.bags.writer import BagWriter
    from tttkd_ros.geometry.rig import RigCamera, save_rig
    from tttkd_ros.simulation.drive import frames

    with BagWriter(bag, point_step=point_step) as writer:
        for frame in frames(WORLD, seed, sweeps):
            writer.write_frame(frame)
    rig = {view.name: RigCamera(view.camera_from_lidar, view.camera) for view in frame.views}
    save_rig(rig_path(bag), rig)


def rig_path(bag: Path) -> Path:
    return bag.with_name(bag.name + "_rig.yaml")


def mount_difference() -> float:
    """Metres by which the target's LiDAR must be lowered to stand where the source's does."""
    from tttkd_ros.simulation.sensors import LIDARS

    return round(LIDARS[SOURCE].height - LIDARS[WORLD].height, 3)


def control(
    bag: Path, model: Path, teacher: Path, method: str, stride: int, control_name: str | None, shift_z: float
) -> Result:
    """One lossless run in process."""
    from tttkd_ros.adaptation.config import TTTConfig
    from tttkd_ros.evaluation.drives import BagDrive
    from tttkd_ros.evaluation.models import load_models
    from tttkd_ros.evaluation.replay import RunConfig, replay

    run = RunConfig(method, TTTConfig(stride=stride), control=control_name, shift_z=shift_z)
    student, eyes = load_models(model, str(teacher), with_teacher=run.adapts)
    return replay(BagDrive(bag), student, eyes, run)
