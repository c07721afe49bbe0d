"""`tttkd simulate`: record a drive through a simulated street in a bag with its truth."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Annotated, Literal

import tyro

from tttkd_ros.simulation.shifts import GROUPS, SHIFTS, drive_seed, shifted_frames

_SHIFT_HELP = "a named target shift instead of a plain world. Each has its own world.\n" + "\n".join(
    f"{group}:\n" + "\n".join(f"    {name}: {shift.description}" for name, shift in shifts.items())
    for group, shifts in GROUPS.items()
)


def simulate(
    out: Annotated[Path, tyro.conf.Positional], *, world: Literal["a2d2", "kitti", "nuscenes"] | None = None,
    shift: Annotated[Literal[tuple(SHIFTS)] | None, tyro.conf.arg(help=_SHIFT_HELP)] = None, seed: int = 0,
    sweeps: int = 300, rolling: bool = False, speed: float = 8.0, stop: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Drive down a simulated street at 10 Hz and record an MCAP bag.

    The bag holds the sweeps, the front camera's images, the calibration, and the true class of every point. Same
    arguments, same bag.

    Example: `tttkd simulate --shift fog --seed 7 drive`, then `tttkd evaluate drive` to see what adaptation gains.

    Args:
        out: directory of the bag. It must not exist.
        world: a2d2 is the sparse source domain that the shipped student was trained on. kitti (64 beams) and nuscenes
            (32) are target domains. Default: kitti.
        seed: another seed gives another street, traffic, light and noise.
        sweeps: length of the drive in tenths of a second.
        rolling: measure while the vehicle moves, like real sensors. A sweep takes 0.1 s and each point has its own time
            (field t). The image is 0.04 s after the sweep's stamp. Odometry is on /tf.
        speed: metres per second. Needs --rolling.
        stop: seconds after the start at which the vehicle stops and drives on, as at a traffic light. Not with --shift.
    """
    from rich.progress import Progress

    from tttkd_ros.bags.writer import BagWriter
    from tttkd_ros.messages.stamps import SECOND
    from tttkd_ros.simulation.drive import DriveProfile, frames, odometry
    from tttkd_ros.simulation.ego_motion import SPEED, Rolling

    if sweeps < 1:
        raise ValueError(f"sweeps is {sweeps}: expected at least 1")
    if world is not None and shift is not None:
        raise ValueError(f"both world {world!r} and shift {shift!r} are given: a shift has its own world, omit one")
    if speed != SPEED and not rolling:
        raise ValueError(f"speed is {speed}: only a rolling drive may differ from {SPEED}, add --rolling")
    begin, end = stop
    if not 0 <= begin <= end:
        raise ValueError(f"stop is from {begin} s to {end} s: expected 0 <= begin <= end")
    if shift is not None and end > begin:
        raise ValueError(f"both shift {shift!r} and a stop are given: a shift's drive does not stop, omit one")
    profile = DriveProfile(rolling=Rolling(speed=speed) if rolling else None, stop=stop)
    if shift is None:
        name = simulated_world = world or "kitti"
        own_seed = seed
        sequence = frames(name, seed, sweeps, profile)
    else:
        name, simulated_world, own_seed = shift, SHIFTS[shift].world, drive_seed(shift, seed)
        sequence = shifted_frames(shift, seed, sweeps, rolling=profile.rolling)
    poses = deque(zip(*odometry(simulated_world, own_seed, sweeps, profile), strict=True) if rolling else ())
    with BagWriter(out) as bag, Progress() as bar:
        task = bar.add_task(f"{name} {seed}", total=sweeps)
        for frame in sequence:
            while poses and poses[0][0] <= frame.stamp + SECOND // 10:
                stamp, pose = poses.popleft()
                bag.write_pose(pose, int(stamp))
            bag.write_frame(frame)
            bar.advance(task)
