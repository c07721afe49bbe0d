"""`tttkd simulate`: a drive through a simulated street, written as a bag with its truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def simulate(
    out: Annotated[Path, tyro.conf.Positional],
    *,
    world: Literal["a2d2", "kitti", "nuscenes"] = "kitti",
    seed: int = 0,
    sweeps: int = 300,
) -> None:
    """Drive down a simulated street at 10 Hz and record LiDAR, front camera, calibration and truth in an MCAP bag.

    Args:
        out: the bag's directory; it must not exist.
        world: a2d2 is the sparse source domain that the shipped student was trained on; kitti (64 layers) and nuscenes
            (32) are targets.
        seed: of the street, its traffic, light and noise.
        sweeps: length of the drive in tenths of a second.
    """
    from tttkd_ros.bags.writer import BagWriter
    from tttkd_ros.progress import progress
    from tttkd_ros.simulation.drive import frames

    if sweeps < 1:
        raise ValueError(f"sweeps is {sweeps}: expected at least 1")
    with BagWriter(out) as bag, progress() as bar:
        task = bar.add_task(f"{world} {seed}", total=sweeps, note="")
        for frame in frames(world, seed, sweeps):
            bag.write_frame(frame)
            bar.advance(task)
