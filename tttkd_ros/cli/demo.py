"""`tttkd demo`."""

from __future__ import annotations

from pathlib import Path

from tttkd_ros.simulation.seeds import SEEDS


def demo(
    *, out: Path = Path("demo_output"), seeds: tuple[int, ...] = tuple(SEEDS["demo"][:3]), sweeps: int = 300,
    kitti: Path = Path("../shared/data/kitti_raw_2011_09_26_seq"), model: Path | None = None,
    teacher: Path | None = None, processes: int = 2, point_step: int = 0,
) -> None:
    """Run the node on new drives, frozen and adapting, and show what adaptation gains.

    For every seed, a drive through the simulated target world is recorded as a bag. The bag is played in real time,
    over DDS, to the real node in a process of its own: once frozen, once adapting with the default settings, and once
    with a step on every sweep. The node's predictions are recorded and scored against the truth. Controls on the same
    drives then show how much of the gain does not come from the images: adapting without images (BatchNorm statistics
    only), with another sweep's images or with one mean feature map, and frozen with the cloud moved to the mounting
    height of the training data. If the recorded KITTI sequence is there, the node runs on it too. The output folder has
    summary.json, pictures and the first drive's bags.

    Args:
        out: output folder. An earlier demo's is replaced.
        seeds: one drive each. None was used in training or for choosing settings.
        sweeps: length of each drive, at 10 Hz.
        kitti: folder of a raw KITTI sequence with calib.txt; skipped if it does not exist.
        model: student checkpoint, the shipped one by default.
        teacher: teacher directory, the shipped one by default.
        processes: number of drives simulated, or controls run, at a time.
        point_step: bytes per point in the simulated clouds; 0 for the size of its fields. 128 gives clouds of 1.8 MB.
    """
    import sys

    from rich.console import Console

    from tttkd_ros.demo.processes import ChildError
    from tttkd_ros.demo.run import run_demo
    from tttkd_ros.paths import STUDENT, TEACHER, shipped_path
    from tttkd_ros.subprocesses import interruptible

    if not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds are {seeds}, expected at least one and none twice")
    if sweeps < 2:
        raise ValueError(f"sweeps is {sweeps}, expected at least 2: the second half is scored by itself")
    if point_step and not 16 <= point_step <= 1024:
        raise ValueError(f"point_step is {point_step}, expected 0, or 16 to 1024 bytes")
    if processes < 1:
        raise ValueError(f"processes is {processes}, expected at least 1")
    try:
        with interruptible():
            run_demo(
                out, seeds, sweeps, kitti, model=model or shipped_path(STUDENT),
                teacher=teacher or shipped_path(TEACHER), processes=processes, point_step=point_step,
            )
    except ChildError as error:
        Console(stderr=True).print(f"demo: {error}", style="red", markup=False, highlight=False)
        sys.exit(1)
