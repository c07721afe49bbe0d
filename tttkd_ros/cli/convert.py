"""`tttkd convert`: one drive of a recorded data set as a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def convert(
    dataset: Literal["semantickitti", "kitti", "nuscenes", "a2d2"],
    folder: Path,
    out: Path,
    /,
    *,
    scene: str | None = None,
) -> None:
    """Write a bag with the clouds, images, calibration, truth and odometry that a data set's folder has.

    Labels become the ten outdoor classes. Images stay the PNG or JPEG files that they are (A2D2's are undistorted
    first). What is finished of a conversion that was interrupted is kept: the same command goes on from there, unless
    labels, images, calibration or poses are others by then, or the converter is.

    Args:
        dataset: semantickitti (KITTI's odometry layout with labels), kitti (a raw drive, or a folder of .bin, .png and
            calib.txt), nuscenes (keyframes, with lidarseg where it is unpacked) or a2d2 (front centre camera).
        folder: where the data set, or one drive of it, is unpacked.
        out: the bag's directory; it must not exist.
        scene: which drive, where the folder has several: SemanticKITTI's 00, KITTI's 2011_09_26_drive_0001_sync,
            nuScenes' scene-0061, A2D2's 20180807_145028.
    """
    from tttkd_ros.datasets.a2d2 import open_a2d2
    from tttkd_ros.datasets.conversion import write_bag
    from tttkd_ros.datasets.kitti import open_kitti
    from tttkd_ros.datasets.nuscenes import NuScenes
    from tttkd_ros.datasets.semantickitti import open_semantickitti
    from tttkd_ros.progress import progress

    openers = {"semantickitti": open_semantickitti, "kitti": open_kitti, "nuscenes": NuScenes, "a2d2": open_a2d2}
    if not folder.is_dir():
        raise ValueError(f"no folder at {folder}")
    recording = openers[dataset](folder, scene)
    source = {"dataset": dataset, "folder": str(folder.resolve()), "scene": scene}
    with progress() as bar:
        task = bar.add_task(f"{dataset} {scene or folder.name}", total=len(recording), note="")
        write_bag(recording, out, source, on_sweeps=lambda count: bar.advance(task, count))
