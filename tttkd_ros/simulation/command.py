"""`tttkd simulate`: a drive through a simulated street, written as a bag with its truth."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Annotated, Literal

import tyro


def simulate(
    out: Annotated[Path, tyro.conf.Positional],
    *,
    world: Literal["a2d2", "kitti", "nuscenes"] = "kitti",
    seed: int = 0,
    sweeps: int = 300,
    rolling: bool = False,
    speed: float = 8.0,
) -> None:
    """Drive down a simulated street at 10 Hz and record LiDAR, front camera, calibration and truth in an MCAP bag.

    Args:
        out: the bag's directory; it must not exist.
        world: a2d2 is the sparse source domain that the shipped student was trained on; kitti (64 layers) and nuscenes
            (32) are targets.
        seed: of the street, its traffic, light and noise.
        sweeps: length of the drive in tenths of a second.
        rolling: measure while the vehicle moves, as real sensors do: the points of a sweep over 0.1 s, each with its
            time (field t), the image 0.04 s after the sweep's stamp, and odometry on /tf.
        speed: metres per second of a rolling drive.
    """
    from tttkd_ros.bags.writer import BagWriter
    from tttkd_ros.messages.stamps import SECOND
    from tttkd_ros.progress import progress
    from tttkd_ros.simulation.drive import frames, odometry
    from tttkd_ros.simulation.ride import SPEED, Rolling

    if sweeps < 1:
        raise ValueError(f"sweeps is {sweeps}: expected at least 1")
    if speed != SPEED and not rolling:
        raise ValueError(f"speed is {speed}: only a rolling drive has another than {SPEED}")
    motion = Rolling(speed=speed) if rolling else None
    poses = deque(zip(*odometry(world, seed, sweeps, rolling=motion), strict=True) if rolling else ())
    with BagWriter(out) as bag, progress() as bar:
        task = bar.add_task(f"{world} {seed}", total=sweeps, note="")
        for frame in frames(world, seed, sweeps, rolling=motion):
            while poses and poses[0][0] <= frame.stamp + SECOND // 10:
                stamp, pose = poses.popleft()
                bag.write_pose(pose, int(stamp))
            bag.write_frame(frame)
            bar.advance(task)
