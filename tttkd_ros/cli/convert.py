"""`tttkd convert`: write one drive of a recorded data set as a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tttkd_ros.datasets.registry import DATASETS, module


def convert(
    dataset: Literal[DATASETS], folder: Path, out: Path, /, *,
    scene: str | None = None, class_set: str = "outdoor10",
) -> None:
    """Convert a drive of a data set to an MCAP bag.

    The bag holds the clouds, images, calibration, labels and odometry that the folder has. Labels are mapped to
    the class set, which the bag names. Images stay the PNG or JPEG files that they are; A2D2's are undistorted.

    An interrupted conversion continues if the same command is run again. It starts over if labels, images, calibration,
    poses or the converter have changed.

    Example: `tttkd convert kitti 2011_09_26/2011_09_26_drive_0001_sync drive`, then `tttkd evaluate drive`.

    Args:
        dataset: semantickitti (KITTI's odometry layout with labels), kitti (a raw drive, or a folder of .bin, .png and
            calib.txt), nuscenes (keyframes, with lidarseg if it is unpacked), a2d2 (front centre camera), waymo (its
            version 2: the top LiDAR's first return) or labels (.bin and .label files with a classes.yaml).
        folder: where the data set, or one drive of it, is unpacked.
        out: directory of the bag. It must not exist.
        scene: name of the drive, if the folder has several: SemanticKITTI's 00, KITTI's 2011_09_26_drive_0001_sync,
            nuScenes' scene-0061, A2D2's 20180807_145028, Waymo's 10023947602400723454_1120_000_1140_000.
        class_set: classes of the labels: outdoor10, semantickitti19, nuscenes16, waymo22, or your own YAML file.
    """
    from rich.progress import Progress

    from tttkd_ros.classes import load_class_set
    from tttkd_ros.datasets.conversion import write_bag

    classes = load_class_set(class_set)
    if not folder.is_dir():
        raise ValueError(f"no folder at {folder}: name the one where the data set is unpacked")
    recording = module(dataset).open_recording(folder, scene, classes)
    source = {"dataset": dataset, "folder": str(folder.resolve()), "scene": scene}
    with Progress() as bar:
        task = bar.add_task(f"{dataset} {scene or folder.name}", total=len(recording))
        write_bag(recording, out, source, on_sweeps=lambda count: bar.advance(task, count))
