"""SemanticKITTI: sequences of KITTI's odometry benchmark with a label for every point.

sequences/<nn>/ with velodyne/<n>.bin, calib.txt (P2, Tr), times.txt and, where there, labels/<n>.label, image_2/<n>.png
and poses.txt. The sweeps of this data set are already compensated for the vehicle's motion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from tttkd_ros.datasets.class_maps import semantic_kitti_classes
from tttkd_ros.datasets.kitti import CAMERA, START, camera_view, check_first, matrices, split_projection
from tttkd_ros.datasets.recording import (
    Recorded,
    drive_folder,
    file_digests,
    log,
    numbered,
    read_labels,
    read_sweep,
    read_text,
)  # fmt: skip
from tttkd_ros.frame import Frame, truth_of_returns
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.stamps import SECOND

REMEDY = "it is in data_odometry_calib.zip of KITTI's odometry benchmark"
LARGEST = 2**31  # seconds that a stamp can hold; nor is there a place so many metres away
STAMPS_FROM = 10**15  # files with numbers from here on are named for stamps in nanoseconds: 10**15 is in January 1970


class SemanticKitti:
    """One sequence. A sequence without labels (the benchmark's test) has no truth, one without images no camera."""

    def __init__(self, sequence: Path):
        self._sweeps = numbered(sequence / "velodyne", ".bin")
        if not self._sweeps:
            raise ValueError(f"{sequence}/velodyne holds no sweeps: expected files such as 000000.bin")
        self._folder = sequence
        self._labels = sequence / "labels" if (sequence / "labels").is_dir() else None
        self._images = sequence / "image_2" if (sequence / "image_2").is_dir() else None
        if self._labels is None:
            log.warning("%s has no folder labels: the bag has no truth", sequence)
        if self._images is None:
            log.warning("%s has no folder image_2 (data_odometry_color.zip): the bag has no camera", sequence)
        values = matrices(sequence / "calib.txt", {"P2": (3, 4), "Tr": (3, 4)}, REMEDY)
        reference = np.eye(4)
        reference[:3] = values["Tr"]
        self._intrinsics, self._camera_from_lidar = split_projection(values["P2"], reference, sequence / "calib.txt")
        if self._images is not None:
            check_first((self._images / f"{path.stem}.png" for path in self._sweeps[:1]), self._intrinsics)
        self._seconds = _table(sequence / "times.txt", (), REMEDY)
        poses = sequence / "poses.txt"
        self._poses = _lidar_poses(_table(poses, (3, 4)), reference) if poses.is_file() else None
        for name, rows in (("times.txt", self._seconds), ("poses.txt", self._poses)):
            last = int(self._sweeps[-1].stem)
            if rows is not None and len(rows) <= last:
                raise ValueError(f"{sequence / name} has {len(rows)} lines, but there is a sweep {last}: fetch it "
                                 "again")

    @property
    def inputs(self) -> dict[str, object]:
        first = self._sweeps[0].stem
        names = ("calib.txt", "times.txt", "poses.txt", f"velodyne/{first}.bin", f"image_2/{first}.png",
                 f"labels/{first}.label")
        return {
            "labels": self._labels is not None, "images": self._images is not None, "poses": self._poses is not None,
            "files": file_digests(self._folder, [self._folder / name for name in names]),
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> Recorded:
        path = self._sweeps[index]
        number = int(path.stem)
        stamp = START + round(self._seconds[number] * SECOND)
        points = read_sweep(path)
        views, images = (), {}
        if self._images is not None:
            view, content = camera_view(
                self._images / f"{path.stem}.png", stamp, self._intrinsics, self._camera_from_lidar
            )
            views, images = (view,), {CAMERA: content}
        labels = None if self._labels is None else label_file(self._labels / f"{path.stem}.label", len(points))
        poses = () if self._poses is None else ((stamp, self._poses[number]),)
        return Recorded(Frame(stamp, points[:, :3].copy(), views, points[:, 3].copy(), labels), images, poses)


class LabelFiles:
    """The truth of a drive's sweeps in a folder of .label files.

    Files that are named for nanoseconds (<stamp>.label) belong to the sweeps of these stamps, and sweeps without one
    have no truth; else the first file belongs to the first sweep, and so on, and there must be one for each of the
    `sweeps`. whole: a drive that is cut short, and so is not, has more files than sweeps.
    """

    def __init__(self, folder: Path, sweeps: int, *, whole: bool = True):
        self._folder = folder
        self._files = numbered(folder, ".label")
        if not self._files:
            raise ValueError(f"{folder} holds no labels: expected files such as 000000.label")
        self._by_stamp = int(self._files[0].stem) >= STAMPS_FROM
        found = len(self._files)
        if not self._by_stamp and (found < sweeps or whole and found != sweeps):
            raise ValueError(f"{folder} holds labels of {found} sweeps, but the bag has {sweeps}: give those of this "
                             "drive, or name each file for its sweep's stamp in nanoseconds (<stamp>.label)")

    def truth(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames from a drive's first on, with these labels in place of their own."""
        stamped = {int(path.stem): path for path in self._files} if self._by_stamp else None
        found = None
        for index, frame in enumerate(frames):
            path = self._files[index] if stamped is None else stamped.get(frame.stamp)
            found = found or path
            labels = None if path is None else label_file(path, len(frame.points))
            yield replace(frame, labels=None if labels is None else truth_of_returns(labels, frame.points))
        if found is None:
            raise ValueError(f"no file in {self._folder} is named for the stamp of a sweep: expected nanoseconds")


def open_semantickitti(folder: Path, scene: str | None = None) -> SemanticKitti:
    """folder: a sequence's, or one above it, of whose sequences `scene` names one ("00")."""
    if scene is None and (folder / "velodyne").is_dir():
        return SemanticKitti(folder)
    above = (path for pattern in ("*", "sequences/*", "dataset/sequences/*") for path in folder.glob(pattern))
    sequences = {path.name: path for path in above if (path / "velodyne").is_dir()}
    return SemanticKitti(drive_folder(folder, scene, sequences, "sequence", "velodyne/000000.bin"))


def label_file(path: Path, size: int) -> np.ndarray:
    """(size,) uint8 class ids. The file: uint32, the lower half the class, the upper half an instance."""
    labels = read_labels(path, "<u4", size)
    try:
        return semantic_kitti_classes(labels & 0xFFFF)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; is it SemanticKITTI's?") from error


def _lidar_poses(poses: np.ndarray, camera_from_lidar: np.ndarray) -> np.ndarray:
    """(K, 3, 4), first from later reference camera -> (K, 4, 4), first from later LiDAR."""
    whole = np.tile(np.eye(4), (len(poses), 1, 1))
    whole[:, :3] = poses
    return inverse(camera_from_lidar) @ whole @ camera_from_lidar


def _table(path: Path, shape: tuple[int, ...], remedy: str = "fetch it again") -> np.ndarray:
    """(K, *shape): a file of numbers, one item to a line."""
    lines = read_text(path, remedy).splitlines()
    try:
        rows = [[float(value) for value in line.split()] for line in lines if line.strip()]
        table = np.array(rows, np.float64).reshape(len(rows), *shape)
        if not (np.abs(table) < LARGEST).all():
            raise ValueError("one is too large, or none")
        return table
    except ValueError as error:
        expected = int(np.prod(shape))
        number = f"number{'s' * (expected > 1)}"
        raise ValueError(f"{path} is not {expected} {number} to a line ({error}): {remedy}") from error
