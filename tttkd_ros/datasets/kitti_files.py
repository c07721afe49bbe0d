"""KITTI's calibration, time stamp and oxts files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tttkd_ros.datasets.recording import read_text
from tttkd_ros.geometry.transforms import inverse

EARTH_RADIUS = 6378137.0  # metres, as in KITTI's development kit
CALIBRATION_REMEDY = "it is in the date's calibration archive, which is unpacked beside its drives"


def read_matrices(path: Path, shapes: dict[str, tuple[int, int]], remedy: str = CALIBRATION_REMEDY):
    """Read matrices from a file of lines `name: numbers`.

    Args:
        path: the file.
        shapes: name -> shape.
        remedy: where to get such a file, for the error.
    Returns: name -> float64 matrix.
    """
    rows = (line.partition(":") for line in read_text(path, remedy).splitlines())
    values = {name.strip(): text.split() for name, _, text in rows}
    matrices = {}
    for name, shape in shapes.items():
        try:
            matrices[name] = np.array(values[name], np.float64).reshape(shape)
            if not np.isfinite(matrices[name]).all():
                raise ValueError("not all are finite")
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} has no {name} of {shape[0]}x{shape[1]} numbers: {error}") from error
    return matrices


def rigid(rotation: np.ndarray, translation: np.ndarray | Sequence[float] = (0, 0, 0)) -> np.ndarray:
    """(4, 4) transform of rotation (3, 3) and translation (3,) or (3, 1), unchecked."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, np.ravel(translation)
    return matrix


def split_projection(projection: np.ndarray, reference: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Split a projection matrix K [I | t] into intrinsics and extrinsics.

    t is the offset of the colour camera from the grey reference camera; it goes to the extrinsics.

    Args:
        projection: (3, 4).
        reference: (4, 4) reference camera from LiDAR.
        path: of the calibration, for the error.
    Returns: K (3, 3) and camera_from_lidar (4, 4).
    """
    intrinsics = projection[:, :3]
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or not np.array_equal(intrinsics[2], (0, 0, 1)):
        raise ValueError(f"P2 in {path} is no projection of a pinhole camera: its left part is {intrinsics.tolist()}")
    return intrinsics, rigid(np.eye(3), np.linalg.solve(intrinsics, projection[:, 3])) @ reference


def read_stamps(folder: Path) -> Callable[[int], int]:
    """Read the stamps of a sensor's folder. Missing frames have an empty line in the file.

    The clock is the recording computer's, without a time zone. It is taken for UTC.

    Returns: number of the frame -> nanoseconds; a frame without a stamp raises ValueError.
    """
    path = folder / "timestamps.txt"
    stamps = {}
    for number, line in enumerate(read_text(path, "it comes with the drive").splitlines()):
        if line.strip():
            try:
                time = np.datetime64(line.strip().replace(" ", "T"), "ns")
                if np.isnat(time):
                    raise ValueError("not a time")
                stamps[number] = int(time.astype(np.int64))
            except ValueError as error:
                raise ValueError(f"{path}, line {number + 1}: {line!r} is no time such as "
                                 "2011-09-26 13:02:25.964389445") from error

    def stamp(number: int) -> int:
        if number not in stamps:
            raise ValueError(f"{path} has no line {number + 1}, for frame {number}: fetch it again")
        return stamps[number]

    return stamp


def oxts_poses(files: Iterable[tuple[int, Path]], imu_from_lidar: np.ndarray) -> dict[int, np.ndarray]:
    """Read poses from GPS and IMU data, like convertOxtsToPose.m of KITTI's development kit.

    That is Mercator's projection, scaled for the first latitude.

    Args:
        files: with their numbers. Each starts with latitude and longitude in degrees, altitude in metres, and roll,
            pitch and yaw in radians.
        imu_from_lidar: (4, 4).
    Returns: number -> (4, 4) first LiDAR pose from LiDAR.
    """
    poses: dict[int, np.ndarray] = {}
    scale, origin = 0.0, np.eye(4)
    for number, path in files:
        values = path.read_text(errors="replace").split()
        try:
            latitude, longitude, altitude, roll, pitch, yaw = (float(value) for value in values[:6])
            if not np.isfinite([latitude, longitude, altitude, roll, pitch, yaw]).all():
                raise ValueError("not all are finite")
        except ValueError as error:
            raise ValueError(f"{path} does not start with six numbers (latitude, longitude, altitude, roll, pitch, "
                             "yaw): fetch it again, or move the folder oxts away to convert without poses") from error
        scale = scale or np.cos(np.radians(latitude))
        east = scale * EARTH_RADIUS * np.radians(longitude)
        north = scale * EARTH_RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2))
        rotation = Rotation.from_euler("ZYX", (yaw, pitch, roll)).as_matrix()
        pose = rigid(rotation, (east, north, altitude)) @ imu_from_lidar
        origin = origin if poses else inverse(pose)
        poses[number] = origin @ pose
    return poses
