"""Writes sweeps as .bin, .label and image files for labelling tools. `tttkd_ros.datasets.labels` reads them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import yaml

from tttkd_ros.classes import UNLABELLED, ClassSet
from tttkd_ros.datasets.labels import NAMES
from tttkd_ros.datasets.parts import Part
from tttkd_ros.files import write_whole
from tttkd_ros.frame import Frame

UNLABELLED_ID = 0  # in the files; class n of a set has the id n + 1


def write_part(part: Part, folder: Path, every: int = 1) -> Iterator[Frame]:
    """Write every n-th sweep of a part, named by its stamp in nanoseconds, and yield it.

    velodyne/STAMP.bin has x, y, z and intensity of all points as float32; CAMERA/STAMP.png is a camera's image;
    labels/STAMP.label has the labels, if there are any, as uint32. Raises Unwritable.
    """
    for frame in islice(part, 0, None, every):
        intensity = np.zeros(len(frame.points)) if frame.intensity is None else frame.intensity
        points = np.column_stack((frame.points, intensity)).astype("<f4")
        write_whole(folder / "velodyne" / f"{frame.stamp}.bin", points.tobytes())
        for view in frame.views:
            _, png = cv2.imencode(".png", cv2.cvtColor(view.image, cv2.COLOR_RGB2BGR))
            write_whole(folder / view.name / f"{frame.stamp}.png", png.tobytes())
        if frame.labels is not None:
            ids = np.where(frame.labels == UNLABELLED, UNLABELLED_ID, frame.labels.astype("<u4") + 1)
            write_whole(folder / "labels" / f"{frame.stamp}.label", ids.astype("<u4").tobytes())
        yield frame


def write_names(class_set: ClassSet, folder: Path) -> None:
    """Write the ids that the labels have. Raises Unwritable."""
    names = {UNLABELLED_ID: "unlabelled"} | dict(enumerate(class_set.names, UNLABELLED_ID + 1))
    write_whole(folder / NAMES, yaml.safe_dump(names, sort_keys=False).encode())
