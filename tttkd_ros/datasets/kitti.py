"""KITTI drives: HDL-64E sweeps with the left colour camera, and poses and labels if they are there.

Two layouts of the raw data: a drive as it is downloaded (<date>_drive_<n>_sync with velodyne_points, image_02 and oxts,
and the date's calib_*.txt beside it), and one folder with <n>.bin, <n>.png and a calib.txt of P2, R0_rect and
Tr_velo_to_cam. `semantickitti` reads the odometry benchmark's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets import recording
from tttkd_ros.datasets.recording import RecordedSweep, log, read_text
from tttkd_ros.digests import digest
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.stamps import SECOND

CAMERA = "camera_front"  # as in config/rigs/kitti.yaml
START = 1_317_000_000 * SECOND  # on the day of the recording: stamp 0 has a special meaning in tf
PERIOD = SECOND // 10  # of a folder without stamps; the sensor turns at 10 Hz
EARTH_RADIUS = 6378137.0  # metres, as in KITTI's development kit
CALIBRATION_REMEDY = "it is in the date's calibration archive, which is unpacked beside its drives"


@dataclass(frozen=True, eq=False)
class KittiRecording:
    """A drive of KITTI, by numbers of frames. Raises ValueError if the first image does not match the calibration."""

    sweeps: Sequence[tuple[int, Path]]  # number and file, in order
    calibration: tuple[np.ndarray, np.ndarray]  # K (3, 3) and camera_from_lidar (4, 4)
    stamps: Mapping[int, int]  # nanoseconds
    image_stamps: Mapping[int, int]
    images: Mapping[int, Path]
    inputs: Mapping[str, object]
    size: tuple[int, int] | None = None  # (width, height) of the calibration's images, if it states them
    poses: Mapping[int, tuple[int, np.ndarray]] = field(default_factory=dict)  # stamp, and fixed frame from LiDAR
    labels: Callable[[int, int], np.ndarray] | None = None  # number and count of points -> ids of class_set
    class_set: ClassSet | None = None

    def __post_init__(self):
        first_image = next(filter(isfile, self.images.values()), None)
        if first_image is not None:
            self._read_image(first_image)

    @property
    def cameras(self) -> tuple[str, ...]:
        return (CAMERA,) if self.images else ()

    def __len__(self) -> int:
        return len(self.sweeps)

    def __getitem__(self, index: int) -> RecordedSweep:
        number, path = self.sweeps[index]
        values, views, contents = recording.read_sweep(path), (), {}
        if number in self.images:
            contents[CAMERA], image, camera = self._read_image(self.images[number])
            views = (View(CAMERA, self.image_stamps[number], image, camera, self.calibration[1]),)
        labels = None if self.labels is None else self.labels(number, len(values))
        frame = Frame(self.stamps[number], values[:, :3].copy(), views, {"intensity": values[:, 3].copy()}, labels)
        return RecordedSweep(frame, contents, [self.poses[number]] if number in self.poses else [])

    def _read_image(self, path: Path) -> tuple[bytes, np.ndarray, CameraModel]:
        remedy = "use the rectified images, of a _sync drive instead of _extract"
        return recording.read_calibrated(path, self.calibration[0], self.size, remedy)


def scenes(folder: Path) -> list[str]:
    """The drives below the folder; none if it is one itself."""
    return [] if (folder / "velodyne_points").is_dir() else sorted(_drives(folder))


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> KittiRecording:
    """Open a raw drive: a folder in one of the two layouts, or the drive `scene` below it. It has no labels.

    Raises ValueError if there is no drive, or its files are something else.
    """
    if scene is None and (folder / "velodyne_points").is_dir():
        return _open_drive(folder.resolve())
    drives = _drives(folder)
    if scene is None and not drives:
        return _open_folder(folder)
    expected = "folders with velodyne_points/data/0000000000.bin"
    return _open_drive(recording.choose_drive(folder, scene, drives, "drive", expected).resolve())


def _drives(folder: Path) -> dict[str, Path]:
    """Those in a date's folder, or in the folders of several dates."""
    found = (path for pattern in ("*/velodyne_points", "*/*/velodyne_points") for path in folder.glob(pattern))
    return {path.parent.name: path.parent for path in found}


def _open_folder(folder: Path) -> KittiRecording:
    """A folder with <n>.bin, <n>.png and calib.txt, in name order, at 10 Hz. A sweep without a PNG has no view."""
    sweeps = list(enumerate(sorted(folder.glob("*.bin"))))
    if not sweeps:
        raise ValueError(f"{folder} holds no sweeps: expected files such as 0000000000.bin")
    calibration = folder / "calib.txt"
    shapes = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
    values = read_matrices(calibration, shapes, f"expected the lines {', '.join(shapes)}")
    reference = rigid(values["R0_rect"]) @ rigid(values["Tr_velo_to_cam"])
    images = {number: path.with_suffix(".png") for number, path in sweeps if path.with_suffix(".png").is_file()}
    stamps = {number: START + number * PERIOD for number, _ in sweeps}
    files = recording.file_digests(folder, [calibration, sweeps[0][1], *list(images.values())[:1]])
    return KittiRecording(sweeps, split_projection(values["P2"], reference, calibration), stamps, stamps, images,
                          {"images": len(images), "files": files})


def _open_drive(drive: Path) -> KittiRecording:
    """A synchronised and rectified drive as it is downloaded."""
    sweeps = recording.numbered_files(drive / "velodyne_points" / "data", ".bin")
    if not sweeps:
        raise ValueError(f"{drive}/velodyne_points/data holds no sweeps: expected files such as 0000000000.bin")
    stamps = _read_stamps(drive / "velodyne_points", dict(sweeps))
    to_cameras, to_camera, to_velo = (
        drive.parent / f"calib_{name}.txt" for name in ("cam_to_cam", "velo_to_cam", "imu_to_velo")
    )
    cameras = read_matrices(to_cameras, {"P_rect_02": (3, 4), "R_rect_00": (3, 3)})
    size = None  # of the rectified images, which some calibrations do not state
    if "S_rect_02:" in read_text(to_cameras, CALIBRATION_REMEDY):
        width, height = read_matrices(to_cameras, {"S_rect_02": (1, 2)})["S_rect_02"][0]
        size = round(width), round(height)
    reference = rigid(cameras["R_rect_00"]) @ _read_rigid(to_camera)
    images = dict(recording.numbered_files(drive / "image_02" / "data", ".png"))
    if not images:
        log.warning("%s/image_02/data holds no images: the bag has no camera", drive)
    image_stamps = _read_stamps(drive / "image_02", dict(sweeps).keys() & images) if images else {}
    poses = {}
    if (drive / "oxts").is_dir():
        files = recording.numbered_files(drive / "oxts" / "data", ".txt")
        pose_stamps = _read_stamps(drive / "oxts", dict(files))
        poses = _oxts_poses(files, inverse(_read_rigid(to_velo)))
        poses = {number: (pose_stamps[number], pose) for number, pose in poses.items()}
    timestamps = [drive / name / "timestamps.txt" for name in ("velodyne_points", "image_02")]
    files = [to_cameras, to_camera, to_velo, *timestamps, sweeps[0][1], *list(images.values())[:1]]
    inputs = {"images": len(images), "poses": len(poses), "oxts": digest(drive / "oxts"),
              "files": recording.file_digests(drive, files)}
    calibration = split_projection(cameras["P_rect_02"], reference, to_cameras)
    return KittiRecording(sweeps, calibration, stamps, image_stamps, images, inputs, size, poses)


def read_matrices(path: Path, shapes: dict[str, tuple[int, int]], remedy: str = CALIBRATION_REMEDY):
    """Read float64 matrices of these shapes, by name, from lines `name: numbers`. remedy: where to get such a file."""
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


def _read_rigid(path: Path) -> np.ndarray:
    values = read_matrices(path, {"R": (3, 3), "T": (3, 1)})
    return rigid(np.hstack([values["R"], values["T"]]))


def rigid(rows: np.ndarray) -> np.ndarray:
    """(4, 4) transform of a rotation (3, 3), or of a rotation and a translation (3, 4), unchecked."""
    matrix = np.eye(4)
    matrix[:3, : rows.shape[1]] = rows
    return matrix


def split_projection(projection: np.ndarray, reference: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Split K [I | t] (3, 4) of the file `path` into K (3, 3) and camera_from_lidar (4, 4).

    t is the colour camera's offset from the grey reference camera. reference: (4, 4), that camera from LiDAR.
    """
    intrinsics = projection[:, :3]
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or not np.array_equal(intrinsics[2], (0, 0, 1)):
        raise ValueError(f"P2 in {path} is no projection of a pinhole camera: its left part is {intrinsics.tolist()}")
    return intrinsics, rigid(np.column_stack([np.eye(3), np.linalg.solve(intrinsics, projection[:, 3])])) @ reference


def _read_stamps(folder: Path, frames: Iterable[int]) -> dict[int, int]:
    """Stamps (ns) of a sensor's frames, by number. A missing frame has an empty line. The file has no time zone."""
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
    if missing := sorted(set(frames) - stamps.keys()):
        raise ValueError(f"{path} has no line {missing[0] + 1}, for frame {missing[0]}: fetch it again")
    return stamps


def _oxts_poses(files: Iterable[tuple[int, Path]], imu_from_lidar: np.ndarray) -> dict[int, np.ndarray]:
    """Number -> (4, 4) first LiDAR pose from LiDAR, by GPS and IMU as in KITTI's convertOxtsToPose.m (Mercator)."""
    poses: dict[int, np.ndarray] = {}
    scale, origin = 0.0, np.eye(4)
    for number, path in files:
        try:  # degrees, metres and radians
            values = [float(value) for value in path.read_text(errors="replace").split()[:6]]
            latitude, longitude, altitude, roll, pitch, yaw = values
            if not np.isfinite(values).all():
                raise ValueError("not all are finite")
        except ValueError as error:
            raise ValueError(f"{path} does not start with six numbers (latitude, longitude, altitude, roll, pitch, "
                             "yaw): fetch it again, or move the folder oxts away to convert without poses") from error
        scale = scale or np.cos(np.radians(latitude))
        east = scale * EARTH_RADIUS * np.radians(longitude)
        north = scale * EARTH_RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2))
        rotation = Rotation.from_euler("ZYX", (yaw, pitch, roll)).as_matrix()
        pose = rigid(np.column_stack([rotation, (east, north, altitude)])) @ imu_from_lidar
        origin = origin if poses else inverse(pose)
        poses[number] = origin @ pose
    return poses
