"""Small recordings in the file formats of A2D2 and SemanticKITTI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from tttkd_ros.classes import OUTDOOR

RIGID = (
    "0.00042768 -0.99996722 -0.00808449 -0.012 -0.00721063 0.00808120 -0.99994132 -0.054 "
    "0.99997386 0.00048595 -0.00720693 -0.292"
)
P2 = "700 0 4 70 0 700 3 0 0 0 1 0"


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (6, 8)) -> None:
    """size: rows and columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*size, 3), (value, 0, 200), np.uint8))  # blue, green, red


def write_semantickitti(folder: Path, sequence: str, sweeps: Sequence[np.ndarray], labels: Sequence[np.ndarray],
                        projection: str = P2, size: tuple[int, int] = (6, 8)) -> None:
    """Write a sequence below `folder`/sequences.

    sweeps: (N, 4) x, y, z and intensity. labels: (N,) raw ids. projection: P2, for images of `size` rows and columns.
    The camera drives along its own z axis, one metre a sweep.
    """
    sequence = folder / "sequences" / sequence
    for name in ("velodyne", "labels"):
        (sequence / name).mkdir(parents=True, exist_ok=True)
    for index, (values, raw) in enumerate(zip(sweeps, labels, strict=True)):
        values.astype("<f4").tofile(sequence / "velodyne" / f"{index:06}.bin")
        raw.astype("<u4").tofile(sequence / "labels" / f"{index:06}.label")
        write_image(sequence / "image_2" / f"{index:06}.png", index % 256, size)
    (sequence / "calib.txt").write_text(f"P0: {P2}\nP2: {projection}\nTr: {RIGID}\n")
    (sequence / "times.txt").write_text("".join(f"{0.1 * index:e}\n" for index in range(len(sweeps))))
    (sequence / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0 0 0 1 {index}\n" for index in range(len(sweeps))))


def write_a2d2(folder: Path, recording: str, sweeps: Sequence[np.ndarray]) -> None:
    """Write a recording such as 20180807_145028, and the files that describe the data set.

    sweeps: (N, 3) points in the undistorted image of 80 x 120 pixels, x ahead and y to the left. Those left of column
    55 are of the class Car 1, the others road.
    """
    width, height = 120, 80
    matrix, original = [[100.0, 0, 60], [0, 105.0, 40], [0, 0, 1]], [[110.0, 0, 61], [0, 110.0, 40], [0, 0, 1]]
    distortion = [-0.3, 0.0, 0.0, 0.0, 0.0]
    view = {"origin": [1.7, 0.0, 0.94], "x-axis": [0.9998, -0.02, 0.0], "y-axis": [0.02, 0.9998, 0.0]}
    camera = {"Lens": "Telecam", "CamMatrix": matrix, "CamMatrixOriginal": original, "Distortion": [distortion],
              "Resolution": [width, height], "view": view}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cams_lidars.json").write_text(json.dumps({"cameras": {"front_center": camera}}))
    names = list(OUTDOOR.groups["a2d2"]) + ["Sky"]
    colours = {"Car 1": 0xFF0000, "RD normal street": 0xFF00FF}
    class_list = {f"#{colours.get(name, 0x010101 * (index + 1)):06x}": name for index, name in enumerate(names)}
    (folder / "class_list.json").write_text(json.dumps(class_list))
    # Column 55 of the undistorted image in the raw image, at the row of the principal point.
    x = (55 - 60) / 100
    edge = 61 + 110 * x * (1 - 0.3 * x * x)
    label = np.full((height, width, 3), (255, 0, 255), np.uint8)
    label[:, : round(edge)] = (0, 0, 255)
    for kind in ("camera", "lidar", "label"):
        (folder / recording / kind / "cam_front_center").mkdir(parents=True, exist_ok=True)
    for index, points in enumerate(sweeps):
        stem = f"{recording.replace('_', '')}_{{}}_frontcenter_{index:09}"
        paths = {kind: folder / recording / kind / "cam_front_center" / stem.format(kind)
                 for kind in ("camera", "lidar", "label")}
        cv2.imwrite(f"{paths['camera']}.png", label // 2)
        Path(f"{paths['camera']}.json").write_text(
            json.dumps({"cam_tstamp": 1_533_653_428_000_000 + 100_000 * index, "pcld_view": view})
        )
        cv2.imwrite(f"{paths['label']}.png", label)
        np.savez(paths["lidar"], points=points, reflectance=np.arange(len(points)),
                 row=40 - 105 * points[:, 2] / points[:, 0], col=60 - 100 * points[:, 1] / points[:, 0])
