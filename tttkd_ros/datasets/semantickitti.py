"""SemanticKITTI: sequences of KITTI's odometry benchmark with a label for every point.

sequences/<nn>/ with velodyne/<n>.bin, calib.txt (P2, Tr) and times.txt; optionally labels/<n>.label, image_2/<n>.png
and poses.txt. The sweeps of this data set are already compensated for the vehicle's motion.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets.class_maps import SEMANTIC_KITTI_IDS, ClassMap
from tttkd_ros.datasets.kitti import START, KittiRecording, read_matrices, rigid, split_projection
from tttkd_ros.datasets.recording import choose_drive, file_digests, log, numbered_files, read_label_file, read_text
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.stamps import SECOND

SECTION = "semantickitti"  # of a class set
REMEDY = "it is in data_odometry_calib.zip of KITTI's odometry benchmark"
MAX_NUMBER = 2**31  # seconds that a stamp can hold, and more metres than there are places


def scenes(folder: Path) -> list[str]:
    """The sequences below the folder; none if it is one itself."""
    return [] if (folder / "velodyne").is_dir() else sorted(_sequences(folder))


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> KittiRecording:
    """Open a sequence: the folder itself, or the one called `scene` ("00") below it.

    Without labels (the benchmark's test) it has no truth, without images no camera. Raises ValueError if there is no
    sequence, its files are something else, or the class set does not cover SemanticKITTI.
    """
    if scene is None and (folder / "velodyne").is_dir():
        return _open_sequence(folder, class_set)
    sequence = choose_drive(folder, scene, _sequences(folder), "sequence", "folders with velodyne/000000.bin")
    return _open_sequence(sequence, class_set)


def _sequences(folder: Path) -> dict[str, Path]:
    above = (path for pattern in ("*", "sequences/*", "dataset/sequences/*") for path in folder.glob(pattern))
    return {path.name: path for path in above if (path / "velodyne").is_dir()}


def _open_sequence(folder: Path, class_set: ClassSet | None) -> KittiRecording:
    sweeps = numbered_files(folder / "velodyne", ".bin")
    if not sweeps:
        raise ValueError(f"{folder}/velodyne holds no sweeps: expected files such as 000000.bin")
    has_labels, has_images = ((folder / name).is_dir() for name in ("labels", "image_2"))
    has_labels = has_labels and class_set is not None
    if class_set is not None and not has_labels:
        log.warning("%s has no folder labels: the bag has no truth", folder)
    if not has_images:
        log.warning("%s has no folder image_2 (data_odometry_color.zip): the bag has no camera", folder)
    values = read_matrices(folder / "calib.txt", {"P2": (3, 4), "Tr": (3, 4)}, REMEDY)
    reference = rigid(values["Tr"])
    seconds = _read_table(folder / "times.txt", (), REMEDY)
    camera_poses = _read_table(folder / "poses.txt", (3, 4)) if (folder / "poses.txt").is_file() else None
    last = sweeps[-1][0]
    for name, rows in (("times.txt", seconds), ("poses.txt", camera_poses)):
        if rows is not None and len(rows) <= last:
            raise ValueError(f"{folder / name} has {len(rows)} lines, but there is a sweep {last}: fetch it again")

    class_map = ClassMap(SEMANTIC_KITTI_IDS, SECTION, class_set) if has_labels else None

    def labels(number: int, size: int) -> np.ndarray:
        return read_classes(folder / "labels" / f"{stems[number]}.label", size, class_map)

    poses, stems = {}, {number: path.stem for number, path in sweeps}
    stamps = {number: START + round(seconds[number] * SECOND) for number in stems}
    if camera_poses is not None:
        # The file has poses of the reference camera from its first one.
        camera_poses = np.array([rigid(pose) for pose in camera_poses])
        lidar_poses = inverse(reference) @ camera_poses @ reference
        poses = {number: (stamps[number], lidar_poses[number]) for number in stems}
    images = {number: folder / "image_2" / f"{stem}.png" for number, stem in stems.items()} if has_images else {}
    first = sweeps[0][1].stem
    names = ("calib.txt", "times.txt", "poses.txt", f"velodyne/{first}.bin", f"image_2/{first}.png",
             f"labels/{first}.label")
    inputs = {"labels": has_labels, "images": has_images, "poses": camera_poses is not None,
              "files": file_digests(folder, [folder / name for name in names])}
    calibration = split_projection(values["P2"], reference, folder / "calib.txt")
    return KittiRecording(
        sweeps, calibration, stamps, stamps, images, inputs, poses=poses, labels=labels if has_labels else None,
        class_set=class_set if has_labels else None,
    )


def read_classes(path: Path, size: int, class_map: ClassMap) -> np.ndarray:
    """Read (size,) uint8 class ids from a .label file of uint32: the lower half is the class, the upper an instance."""
    labels = read_label_file(path, "<u4", size)
    try:
        return class_map(labels & 0xFFFF)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; is it SemanticKITTI's?") from error


def _read_table(path: Path, shape: tuple[int, ...], remedy: str = "fetch it again") -> np.ndarray:
    """(K, *shape) float64 of a text file with one item per line."""
    lines = read_text(path, remedy).splitlines()
    try:
        rows = [[float(value) for value in line.split()] for line in lines if line.strip()]
        table = np.array(rows, np.float64).reshape(len(rows), *shape)
        if not (np.abs(table) < MAX_NUMBER).all():
            raise ValueError("one is too large, or not a number")
        return table
    except ValueError as error:
        expected = "12 numbers" if shape else "1 number"
        raise ValueError(f"{path} is not {expected} to a line ({error}): {remedy}") from error
