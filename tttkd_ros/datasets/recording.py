"""The interface of all data sets' readers, and the checks that they share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile, relpath  # pathlib's raise OSError for a name that is too long, as in a damaged table
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol, TypeVar

import numpy as np

from tttkd_ros.classes import ClassSet
from tttkd_ros.digests import digest
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.image import decode_image

log = logging.getLogger(__name__)
T = TypeVar("T")

OPTICAL_FROM_VIEW = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # x out of the camera, z up
MAX_OFF_CENTRE = 0.12  # share of a side: up to 0.05 in KITTI and nuScenes, 0.16 in KITTI's unrectified images


@dataclass(frozen=True, eq=False)
class RecordedSweep:
    """One sweep. Raises ValueError for transforms that are not finite: damaged numbers may overflow on their way here.

    images: camera -> the PNG or JPEG file of its view. poses: stamp (ns) and (4, 4) fixed frame from LiDAR.
    """

    frame: Frame
    images: Mapping[str, bytes] = field(default_factory=dict)
    poses: Sequence[tuple[int, np.ndarray]] = ()

    def __post_init__(self):
        transforms = [(f"the transform of {view.name}", view.camera_from_lidar) for view in self.frame.views]
        transforms += [(f"the LiDAR's pose at {stamp}", pose) for stamp, pose in self.poses]
        for name, matrix in transforms:
            if not np.isfinite(matrix).all():
                raise ValueError(f"sweep {self.frame.stamp}: {name} is not finite: {matrix.tolist()}; fetch its "
                                 "calibration and poses again")


class Recording(Protocol):
    """A drive, read by index, so that a conversion needs little memory and can continue in the middle.

    cameras: names of the cameras that have images. inputs: plain values that change with all that the frames depend on.
    The first sweep's files may represent all. class_set: the one whose ids the labels are; None if there are no labels.
    """

    cameras: tuple[str, ...]
    inputs: Mapping[str, object]
    class_set: ClassSet | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RecordedSweep: ...


def pinhole(matrix: np.ndarray, width: int, height: int) -> CameraModel:
    """The camera of intrinsics `matrix` (3, 3) without distortion; sizes in pixels."""
    fx, fy, cx, cy = (float(matrix[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return CameraModel(width, height, fx, fy, cx, cy)


def file_digests(folder: Path, files: Iterable[Path]) -> dict[str, str | None]:
    """Name relative to the folder -> digest; None if there is no such file."""
    return {relpath(path, folder): digest(path) if isfile(path) else None for path in files}


def read_calibrated(
    path: Path, matrix: np.ndarray, size: tuple[int, int] | None, remedy: str
) -> tuple[bytes, np.ndarray, CameraModel]:
    """Read an image of a camera with intrinsics (3, 3): file content, pixels (H, W, 3) uint8 RGB, and the camera.

    size: the calibration's (width, height), if it states them. Raises ValueError for another size, or if the principal
    point is far from the image's middle.
    """
    content, image = read_image(path)
    height, width = image.shape[:2]
    if size is not None and size != (width, height):
        raise ValueError(f"{path} is {width}x{height}, but its calibration is for {size[0]}x{size[1]}: {remedy}")
    x, y = float(matrix[0, 2]), float(matrix[1, 2])
    if not max(abs(x / width - 0.5), abs(y / height - 0.5)) <= MAX_OFF_CENTRE:
        raise ValueError(f"{path} is {width}x{height}, but its calibration has the principal point at ({x:.1f}, "
                         f"{y:.1f}), far from the middle: {remedy}")
    return content, image, pinhole(matrix, width, height)


def read_image(path: Path) -> tuple[bytes, np.ndarray]:
    """Read an image: the file's content, and its pixels (H, W, 3) uint8 RGB."""
    if not isfile(path):
        raise ValueError(f"no image at {path}: unpack all of them")
    content = path.read_bytes()
    try:
        return content, decode(content, path.suffix[1:])
    except ValueError as error:
        raise ValueError(f"{path} cannot be decoded as an image: fetch it again ({error})") from error


def decode(content: bytes, kind: str) -> np.ndarray:
    """Pixels (H, W, 3) uint8 RGB of an image file. kind: "png" or "jpeg". Raises ValueError if it is damaged."""
    return decode_image(SimpleNamespace(format=kind, data=content))


def read_sweep(path: Path, columns: int = 4) -> np.ndarray:
    """Read a sweep: (N, columns) float32, x, y, z in metres, intensity and further values."""
    if not isfile(path):
        raise ValueError(f"no sweep at {path}: unpack all of them")
    size = path.stat().st_size
    if size % (4 * columns):
        raise ValueError(f"{path} holds {size} bytes, expected a multiple of {4 * columns} ({columns} float32 a "
                         "point): it is cut short, or from another data set")
    return np.fromfile(path, "<f4").reshape(-1, columns)


def read_label_file(path: Path, dtype: str, size: int) -> np.ndarray:
    """Read a sweep's labels: (size,) of `dtype`."""
    if not isfile(path):
        raise ValueError(f"no labels at {path}: unpack all of them, or move their folder away to convert without truth")
    labels = np.fromfile(path, dtype)
    if path.stat().st_size != labels.itemsize * size:
        raise ValueError(f"{path} holds {path.stat().st_size} bytes, expected {labels.itemsize * size}: one label for "
                         f"each of the sweep's {size} points")
    return labels


def read_text(path: Path, remedy: str) -> str:
    """Read a text file. remedy: where to get such a file, for the error."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: {remedy}")
    return path.read_text(errors="replace")


def numbered_files(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """The files whose names are numbers: (number, file) in ascending order."""
    names = ((path.name.removesuffix(suffix), path) for path in folder.glob(f"*{suffix}"))
    return sorted((int(name), path) for name, path in names if name.isdigit())


def choose_drive(folder: Path, scene: str | None, drives: Mapping[str, T], kind: str, expected: str) -> T:
    """The drive called `scene`, or else the only one. kind: the data set's word for it. expected: of the folder."""
    names = ", ".join(sorted(drives)[:8]) + (", ..." if len(drives) > 8 else "")
    if not drives:
        raise ValueError(f"{folder} has no {kind} in it: expected {expected}")
    if scene is None and len(drives) > 1:
        raise ValueError(f"{folder} has {len(drives)} {kind}s: name one with --scene ({names})")
    if scene is not None and scene not in drives:
        raise ValueError(f"{folder} has no {kind} {scene!r}, only {names}")
    return next(iter(drives.values())) if scene is None else drives[scene]
