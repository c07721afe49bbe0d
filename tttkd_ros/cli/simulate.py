"""`tttkd simulate`: a drive through a simulated street, written as a bag with its truth."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttkd_ros.simulation.shifts import GROUPS, SHIFTS, shift_named, shifted_frames

_LISTED = "\n".join(
    f"{group}:\n" + "\n".join(f"    {name}: {shift.description}" for name, shift in shifts.items())
    for group, shifts in GROUPS.items()
)


def simulate(
    out: Annotated[Path, tyro.conf.Positional],
    *,
    world: Literal["a2d2", "kitti", "nuscenes"] | None = None,
    shift: Annotated[
        Literal[tuple(SHIFTS)] | None, tyro.conf.arg(help=f"a named target shift instead of a bare world.\n{_LISTED}")
    ] = None,
    seed: int = 0,
    sweeps: int = 300,
    rolling: bool = False,
    speed: float = 8.0,
    stop: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Drive down a simulated street at 10 Hz and record LiDAR, front camera, calibration and truth in an MCAP bag.

    Args:
        out: the bag's directory; it must not exist.
        world: a2d2 is the sparse source domain that the shipped student was trained on; kitti (64 layers) and nuscenes
            (32) are targets. kitti where neither a world nor a shift is named.
        seed: of the street, its traffic, light and noise.
        sweeps: length of the drive in tenths of a second.
        rolling: measure while the vehicle moves, as real sensors do: the points of a sweep over 0.1 s, each with its
            time (field t), the image 0.04 s after the sweep's stamp, and odometry on /tf.
        speed: metres per second of a rolling drive.
        stop: seconds from the start between which the vehicle stands, as at a traffic light; not with a shift.
    """
    from tttkd_ros.bags.writer import BagWriter
    from tttkd_ros.messages.stamps import SECOND
    from tttkd_ros.progress import progress
    from tttkd_ros.simulation.drive import DriveProfile, frames, odometry
    from tttkd_ros.simulation.ego_motion import SPEED, Rolling

    if sweeps < 1:
        raise ValueError(f"sweeps is {sweeps}: expected at least 1")
    if world is not None and shift is not None:
        raise ValueError(f"both world {world!r} and shift {shift!r} are given: a shift has its world, leave one out")
    if speed != SPEED and not rolling:
        raise ValueError(f"speed is {speed}: only a rolling drive has another than {SPEED}")
    begin, end = stop
    if not 0 <= begin <= end:
        raise ValueError(f"stop is from {begin} s to {end} s: expected neither a negative number nor an end before it")
    if shift is not None and end > begin:
        raise ValueError(f"both shift {shift!r} and a stop are given: a shift's drive does not stop, leave one out")
    course = DriveProfile(rolling=Rolling(speed=speed) if rolling else None, stop=stop)
    if shift is None:
        name = driven = world or "kitti"
        sequence = frames(driven, seed, sweeps, course)
    else:
        name, driven = shift, shift_named(shift).world
        sequence = shifted_frames(shift, seed, sweeps, rolling=course.rolling)
    poses = deque(zip(*odometry(driven, seed, sweeps, course), strict=True) if rolling else ())
    with BagWriter(out) as bag, progress() as bar:
        task = bar.add_task(f"{name} {seed}", total=sweeps, note="")
        for frame in sequence:
            while poses and poses[0][0] <= frame.stamp + SECOND // 10:
                stamp, pose = poses.popleft()
                bag.write_pose(pose, int(stamp))
            bag.write_frame(frame)
            bar.advance(task)
