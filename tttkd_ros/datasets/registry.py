"""The data sets that can be read. A new one is a module in this folder, with `open_recording` and `scenes`, named here.

    open_recording(folder: Path, scene: str | None, class_set: ClassSet | None) -> Recording    # None: labels unread
    scenes(folder: Path) -> list[str]    # the names of its drives; none if the folder is a drive itself
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

DATASETS = ("semantickitti", "kitti", "nuscenes", "a2d2", "waymo", "labels")


def module(kind: str) -> ModuleType:
    """The module of one of `DATASETS`."""
    return import_module(f"tttkd_ros.datasets.{kind}")
