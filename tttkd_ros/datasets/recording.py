"""What every data set gives: sweep after sweep of one drive, each as the one frame type with its poses and image files.

Recordings are read by index, a sweep at a time, so that converting one takes little memory and can go on in the middle.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile, relpath  # pathlib's raise OSError for a name that is too long, as a damaged table may have
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Protocol

import numpy as np

from tttkd_ros.digests import digest
from tttkd_ros.frame import Frame
from tttkd_ros.messages.image import decode_image

log = logging.getLogger(__name__)

OFF_CENTRE = 0.12  # share of a side: of KITTI's and nuScenes' images it is up to 0.05, of KITTI's unrectified ones 0.16


@dataclass(frozen=True, eq=False)
class Recorded:
    """One sweep. images: camera -> the PNG or JPEG file that its view's image was decoded from. poses: stamp in
    nanoseconds and where the LiDAR was then, (4, 4), in a frame that stays.

    Raises ValueError for transforms that are not finite: numbers that are beyond all reason overflow on their way here.
    """

    frame: Frame
    images: Mapping[str, bytes] = field(default_factory=dict)
    poses: Sequence[tuple[int, np.ndarray]] = ()

    def __post_init__(self):
        places = [(f"{view.name}'s place", view.camera_from_lidar) for view in self.frame.views]
        places += [(f"the LiDAR's pose at {stamp}", pose) for stamp, pose in self.poses]
        for name, matrix in places:
            if not np.isfinite(matrix).all():
                raise ValueError(f"sweep {self.frame.stamp}: {name} is not finite: {matrix.tolist()}; fetch its "
                                 "calibration and poses again")


class Recording(Protocol):
    """A drive, read a sweep at a time.

    inputs: plain values that change with what its frames follow from, be it one more folder or another calibration;
    not with a sweep's file that was at fault and has been replaced.
    """

    @property
    def inputs(self) -> dict[str, object]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Recorded: ...


def file_digests(folder: Path, files: Iterable[Path]) -> dict[str, str | None]:
    """Name, as from the folder, -> digest; None where there is no such file. The first of many sweeps' files may stand
    for them all: where it was at fault, nothing had been finished that could be kept.
    """
    return {relpath(path, folder): digest(path) if isfile(path) else None for path in files}


def inside(folder: Path, name: str, table: Path) -> Path:
    """The file that a table of the data set names. Raises ValueError for a name that leads out of the folder."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"{table} names the file {name!r}, which is not in {folder}: fetch the table again")
    return folder / name


def require_size(path: Path, image: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int] | None, remedy: str):
    """Raise ValueError if an image (H, W, 3) is not one that the calibration is for.

    intrinsics: (3, 3). size: the calibration's (width, height); without one, the principal point must lie near the
    image's middle.
    """
    height, width = image.shape[:2]
    if size is not None and size != (width, height):
        raise ValueError(f"{path} is {width}x{height}, but its calibration is for {size[0]}x{size[1]}: {remedy}")
    x, y = float(intrinsics[0, 2]), float(intrinsics[1, 2])
    if not max(abs(x / width - 0.5), abs(y / height - 0.5)) <= OFF_CENTRE:
        raise ValueError(f"{path} is {width}x{height}, but its calibration has the principal point at ({x:.1f}, "
                         f"{y:.1f}), far from the middle: {remedy}")


def read_image(path: Path) -> tuple[bytes, np.ndarray]:
    """The file as it is, and its pixels (H, W, 3) uint8 RGB."""
    if not isfile(path):
        raise ValueError(f"no image at {path}")
    content = path.read_bytes()
    try:
        return content, decode_image(SimpleNamespace(format=path.suffix[1:], data=content))
    except ValueError as error:
        raise ValueError(f"{path} cannot be decoded as an image: fetch it again ({error})") from error


def read_sweep(path: Path, columns: int = 4) -> np.ndarray:
    """(N, columns) float32: x, y, z in metres, intensity and what else there is."""
    if not isfile(path):
        raise ValueError(f"no sweep at {path}")
    size = path.stat().st_size
    if size % (4 * columns):
        raise ValueError(f"{path} holds {size} bytes, expected a multiple of {4 * columns} ({columns} float32 a "
                         "point): it is cut short, or of another data set")
    return np.fromfile(path, "<f4").reshape(-1, columns)


def read_labels(path: Path, dtype: str, size: int) -> np.ndarray:
    """(size,) as they are in the file."""
    if not isfile(path):
        raise ValueError(f"no labels at {path}: unpack all of them, or move their folder away to convert without truth")
    labels = np.fromfile(path, dtype)
    if path.stat().st_size != labels.itemsize * size:
        raise ValueError(f"{path} holds {path.stat().st_size} bytes, expected {labels.itemsize * size}: one label for "
                         f"each of the sweep's {size} points")
    return labels


def read_text(path: Path, remedy: str) -> str:
    """remedy: where such a file is to be had."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: {remedy}")
    return path.read_text(errors="replace")


def numbered(folder: Path, suffix: str) -> list[Path]:
    """The files whose names are numbers, in their order."""
    files = [path for path in folder.glob(f"*{suffix}") if path.name.removesuffix(suffix).isdigit()]
    return sorted(files, key=lambda path: int(path.name.removesuffix(suffix)))


def drive_folder(folder: Path, scene: str | None, drives: Mapping[str, Path], what: str, layout: str) -> Path:
    """The drive that is meant of those that are there. drives: name -> its folder. what: the data set's word for one.
    layout: a file that every drive has."""
    known = ", ".join(sorted(drives)[:8]) + (", ..." if len(drives) > 8 else "")
    if not drives:
        raise ValueError(f"{folder} has no {what} in it: expected folders with {layout}")
    if scene is None and len(drives) > 1:
        raise ValueError(f"{folder} has {len(drives)} {what}s: name one with --scene ({known})")
    if scene is not None and scene not in drives:
        raise ValueError(f"{folder} has no {what} {scene!r}, only {known}")
    return next(iter(drives.values())) if scene is None else drives[scene]
