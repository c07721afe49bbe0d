"""`tttkd demo`."""

from __future__ import annotations

from pathlib import Path


def demo(
    *,
    out: Path = Path("demo_output"),
    seeds: tuple[int, ...] = (901, 902, 903),
    sweeps: int = 300,
    kitti: Path = Path("../shared/data/kitti_raw_2011_09_26_seq"),
    model: Path | None = None,
    teacher: Path | None = None,
    processes: int = 2,
    point_step: int = 0,
) -> None:
    """Run the node on drives that it has never seen, frozen and adapting, and show what adaptation brings.

    For every seed a drive through the simulated target world is recorded into a bag and played in real time, over DDS,
    to the real node, each as a process of its own: once frozen, once adapting with the default stride and learning
    rate, once with a step on every sweep. What the node answers is recorded and scored against the truth. The same
    drives are then run with controls, which show what of the gain is not the images' doing: without images (BatchNorm's
    statistics alone), with another sweep's, with one mean feature map, frozen with the cloud shifted to the source's
    mount height. Where the recorded KITTI sequence is at hand, the node runs on it too. Leaves summary.json, pictures,
    and the first drive's bags in the output folder.

    Args:
        out: the output folder; replaced if it is that of an earlier demo.
        seeds: one drive each; none of them was used in training or in choosing settings.
        sweeps: length of each drive, at 10 Hz.
        kitti: folder of a raw KITTI sequence with calib.txt; left out where it is absent.
        model: student checkpoint; the one that ships if not given.
        teacher: teacher's directory; the one that ships if not given.
        processes: how many drives are simulated, or controls run, at a time.
        point_step: bytes of each point in the simulated clouds, 0 for those of its fields; 128 makes clouds of 1.8 MB.
    """
    import sys

    from rich.console import Console

    from tttkd_ros.demo.processes import ChildError, interruptible
    from tttkd_ros.demo.run import run_demo
    from tttkd_ros.evaluation.models import STUDENT, TEACHER
    from tttkd_ros.paths import shipped_path

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
                out, seeds, sweeps, kitti, model=model or shipped_path(STUDENT), teacher=teacher or shipped_path(TEACHER),
                processes=processes, point_step=point_step,
            )
    except ChildError as error:
        Console(stderr=True).print(f"demo: {error}", style="red", markup=False, highlight=False)
        sys.exit(1)
