"""KITTI drives: HDL-64E sweeps with the left colour camera, and poses and labels if they are there.

Two layouts of the raw data: a drive as it is downloaded (<date>_drive_<n>_sync with velodyne_points, image_02 and oxts,
and the date's calib_*.txt beside it), and one folder with <n>.bin, <n>.png and a calib.txt of P2, R0_rect and
Tr_velo_to_cam. `semantickitti` reads the odometry benchmark's layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os.path import isfile
from pathlib import Path

import numpy as np

from tttkd_ros.datasets import recording
from tttkd_ros.datasets.kitti_files import oxts_poses, read_matrices, read_stamps, rigid, split_projection
from tttkd_ros.datasets.recording import RecordedSweep, log
from tttkd_ros.digests import digest
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.stamps import SECOND

CAMERA = "camera_front"  # as in config/rigs/kitti.yaml
START = 1_317_000_000 * SECOND  # on the day of the recording: stamp 0 has a special meaning in tf
PERIOD = SECOND // 10  # of a folder without stamps; the sensor turns at 10 Hz


@dataclass(frozen=True, eq=False)
class KittiRecording:
    """A drive of KITTI. Frames have numbers; not every one has a sweep, or an image.

    sweeps: (number, file) in order. calibration: K (3, 3) and camera_from_lidar (4, 4). stamp, image_stamp: number ->
    nanoseconds. images: number -> file. size: (width, height) of the calibration's images, if it states them. poses:
    number -> (stamp, fixed frame from LiDAR). labels: number and count of points -> class ids. files, counts: what
    `inputs` is made of. Raises ValueError if the first image does not match the calibration.
    """

    folder: Path
    sweeps: Sequence[tuple[int, Path]]
    calibration: tuple[np.ndarray, np.ndarray]
    stamp: Callable[[int], int]
    image_stamp: Callable[[int], int]
    images: Mapping[int, Path]
    files: Sequence[Path]
    counts: Mapping[str, object]
    size: tuple[int, int] | None = None
    poses: Mapping[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    labels: Callable[[int, int], np.ndarray] | None = None

    def __post_init__(self):
        first_image = next(filter(isfile, self.images.values()), None)
        if first_image is not None:
            self._read_image(first_image)

    @property
    def inputs(self) -> dict[str, object]:
        return {**self.counts, "files": recording.file_digests(self.folder, self.files)}

    def __len__(self) -> int:
        return len(self.sweeps)

    def __getitem__(self, index: int) -> RecordedSweep:
        number, path = self.sweeps[index]
        values, views, contents = recording.read_sweep(path), (), {}
        if number in self.images:
            image_stamp = self.image_stamp(number)
            contents[CAMERA], image = self._read_image(self.images[number])
            intrinsics, camera_from_lidar = self.calibration
            camera = recording.pinhole(intrinsics, image.shape[1], image.shape[0])
            views = (View(CAMERA, image_stamp, image, camera, camera_from_lidar),)
        labels = None if self.labels is None else self.labels(number, len(values))
        frame = Frame(self.stamp(number), values[:, :3].copy(), views, values[:, 3].copy(), labels)
        return RecordedSweep(frame, contents, [self.poses[number]] if number in self.poses else [])

    def _read_image(self, path: Path) -> tuple[bytes, np.ndarray]:
        content, image = recording.read_image(path)
        remedy = "use the rectified images, of a _sync drive instead of _extract"
        recording.check_image_size(path, image, self.calibration[0], self.size, remedy)
        return content, image


def open_kitti(folder: Path, scene: str | None = None) -> KittiRecording:
    """Open a raw drive.

    Args:
        folder: in one of the two layouts, or a date's folder with drives.
        scene: name of the drive, if the folder has several.
    Raises: ValueError if there is no drive, or its files are something else.
    """
    if scene is None and (folder / "velodyne_points").is_dir():
        return _open_drive(folder.resolve())
    drives = {path.parent.name: path.parent for path in folder.glob("*/velodyne_points")}
    if scene is None and not drives:
        return _open_folder(folder)
    expected = "folders with velodyne_points/data/0000000000.bin"
    return _open_drive(recording.choose_drive(folder, scene, drives, "drive", expected).resolve())


def _open_folder(folder: Path) -> KittiRecording:
    """A folder with <n>.bin, <n>.png and calib.txt, in name order, at 10 Hz. A sweep without a PNG has no view."""
    sweeps = list(enumerate(sorted(folder.glob("*.bin"))))
    if not sweeps:
        raise ValueError(f"{folder} holds no sweeps: expected files such as 0000000000.bin")
    calibration = folder / "calib.txt"
    shapes = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
    values = read_matrices(calibration, shapes, f"expected the lines {', '.join(shapes)}")
    camera_from_velo = values["Tr_velo_to_cam"]
    reference = rigid(values["R0_rect"]) @ rigid(camera_from_velo[:, :3], camera_from_velo[:, 3])
    images = {number: path.with_suffix(".png") for number, path in sweeps if path.with_suffix(".png").is_file()}

    def stamp(number: int) -> int:
        return START + number * PERIOD

    return KittiRecording(
        folder, sweeps, split_projection(values["P2"], reference, calibration), stamp, stamp, images,
        files=[calibration, sweeps[0][1], *list(images.values())[:1]], counts={"images": len(images)},
    )


def _open_drive(drive: Path) -> KittiRecording:
    """A synchronised and rectified drive as it is downloaded."""
    sweeps = recording.numbered_files(drive / "velodyne_points" / "data", ".bin")
    if not sweeps:
        raise ValueError(f"{drive}/velodyne_points/data holds no sweeps: expected files such as 0000000000.bin")
    stamp = read_stamps(drive / "velodyne_points")
    to_cameras, to_camera, to_velo = (
        drive.parent / f"calib_{name}.txt" for name in ("cam_to_cam", "velo_to_cam", "imu_to_velo")
    )
    cameras = read_matrices(to_cameras, {"P_rect_02": (3, 4), "R_rect_00": (3, 3)})
    size = _image_size(to_cameras)
    reference = rigid(cameras["R_rect_00"]) @ _read_rigid(to_camera)
    images = dict(recording.numbered_files(drive / "image_02" / "data", ".png"))
    if not images:
        log.warning("%s/image_02/data holds no images: the bag has no camera", drive)
    image_stamp = read_stamps(drive / "image_02") if images else stamp
    poses = {}
    if (drive / "oxts").is_dir():
        imu_from_lidar, pose_stamp = inverse(_read_rigid(to_velo)), read_stamps(drive / "oxts")
        poses = oxts_poses(recording.numbered_files(drive / "oxts" / "data", ".txt"), imu_from_lidar)
        poses = {number: (pose_stamp(number), pose) for number, pose in poses.items()}
    timestamps = [drive / name / "timestamps.txt" for name in ("velodyne_points", "image_02")]
    return KittiRecording(
        drive, sweeps, split_projection(cameras["P_rect_02"], reference, to_cameras), stamp, image_stamp, images,
        files=[to_cameras, to_camera, to_velo, *timestamps, sweeps[0][1], *list(images.values())[:1]],
        counts={"images": len(images), "poses": len(poses), "oxts": digest(drive / "oxts")}, size=size, poses=poses,
    )


def _image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of camera 2's rectified images, None if the calibration does not state it."""
    if "S_rect_02:" not in recording.read_text(path, "fetch it again"):
        return None
    width, height = read_matrices(path, {"S_rect_02": (1, 2)})["S_rect_02"][0]
    return round(width), round(height)


def _read_rigid(path: Path) -> np.ndarray:
    values = read_matrices(path, {"R": (3, 3), "T": (3, 1)})
    return rigid(values["R"], values["T"])
