"""`tttkd convert`: a recorded data set's folder as a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tttkd_ros.datasets.kitti import convert_kitti

CONVERTERS = {"kitti": convert_kitti}


def convert(dataset: Literal["kitti"], folder: Path, out: Path, /) -> None:
    """Write a bag with the clouds, images and calibration of a data set's folder.

    Args:
        dataset: layout of the folder; kitti is a raw KITTI sequence (.bin and .png by number, calib.txt) at 10 Hz.
        folder: where the recorded files are.
        out: the bag's directory; it must not exist.
    """
    CONVERTERS[dataset](folder, out)
