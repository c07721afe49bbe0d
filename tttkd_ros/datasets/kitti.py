"""KITTI raw drives: HDL-64E sweeps with the left colour camera and, where there, the way that GPS and inertia told.

Two layouts: a drive as it is downloaded (<date>_drive_<n>_sync with velodyne_points, image_02 and oxts, the date's
calib_*.txt beside it), and one folder with <n>.bin, <n>.png and a calib.txt of P2, R0_rect and Tr_velo_to_cam.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os.path import isfile
from pathlib import Path

import numpy as np

from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.oxts import oxts_poses
from tttkd_ros.datasets.recording import (
    Recorded,
    drive_folder,
    file_digests,
    log,
    numbered,
    read_image,
    read_sweep,
    read_text,
    require_size,
)  # fmt: skip
from tttkd_ros.digests import digest
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.transforms import inverse
from tttkd_ros.messages.stamps import SECOND

CAMERA = "camera_front"  # as in config/rigs/kitti.yaml
PERIOD = SECOND // 10  # of a folder without stamps; the sensor turns at 10 Hz
START = 1_317_000_000 * SECOND  # on the recording's day: stamp 0 has a meaning of its own in tf
REMEDY = "it is in the date's calibration archive, which is unpacked beside its drives"
RECTIFIED = "use the rectified images, of a _sync drive instead of _extract"


class KittiFolder:
    """A folder with <n>.bin (N, 4) float32 x y z intensity, <n>.png and calib.txt, in name order, at 10 Hz.

    A sweep without a PNG has no view. Raises ValueError for a folder without sweeps, and for files that are not that.
    """

    def __init__(self, folder: Path):
        self._sweeps = sorted(folder.glob("*.bin"))
        if not self._sweeps:
            raise ValueError(f"{folder} holds no sweeps: expected files such as 0000000000.bin")
        self._folder = folder
        self._intrinsics, self._camera_from_lidar = read_calibration(folder / "calib.txt")
        check_first([path.with_suffix(".png") for path in self._sweeps], self._intrinsics)

    @property
    def inputs(self) -> dict[str, object]:
        images = [path.with_suffix(".png") for path in self._sweeps if path.with_suffix(".png").is_file()]
        files = [self._folder / "calib.txt", self._sweeps[0], *images[:1]]
        return {"images": len(images), "files": file_digests(self._folder, files)}

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> Recorded:
        path = self._sweeps[index]
        stamp = START + index * PERIOD
        points = read_sweep(path)
        views, images = (), {}
        if path.with_suffix(".png").is_file():
            view, content = camera_view(path.with_suffix(".png"), stamp, self._intrinsics, self._camera_from_lidar)
            views, images = (view,), {CAMERA: content}
        return Recorded(Frame(stamp, points[:, :3].copy(), views, points[:, 3].copy()), images)


class KittiDrive:
    """A synchronised and rectified drive as it is downloaded."""

    def __init__(self, drive: Path):
        self._sweeps = numbered(drive / "velodyne_points" / "data", ".bin")
        if not self._sweeps:
            raise ValueError(f"{drive}/velodyne_points/data holds no sweeps: expected files such as 0000000000.bin")
        self._folder = drive
        self._stamps = read_stamps(drive / "velodyne_points" / "timestamps.txt")
        calibration = drive.parent / "calib_cam_to_cam.txt"
        cameras = matrices(calibration, {"P_rect_02": (3, 4), "R_rect_00": (3, 3)})
        self._size = _size(calibration)
        camera_from_velo = _rigid(drive.parent / "calib_velo_to_cam.txt")
        rectify = np.eye(4)
        rectify[:3, :3] = cameras["R_rect_00"]
        self._intrinsics, self._camera_from_lidar = split_projection(
            cameras["P_rect_02"], rectify @ camera_from_velo, calibration
        )
        self._images = {int(path.stem): path for path in numbered(drive / "image_02" / "data", ".png")}
        check_first(self._images.values(), self._intrinsics, self._size)
        self._image_stamps = read_stamps(drive / "image_02" / "timestamps.txt") if self._images else {}
        if not self._images:
            log.warning("%s/image_02/data holds no images: the bag has no camera", drive)
        self._poses = {}
        if (drive / "oxts").is_dir():
            velo_from_imu = _rigid(drive.parent / "calib_imu_to_velo.txt")
            stamps = read_stamps(drive / "oxts" / "timestamps.txt")
            poses = oxts_poses(numbered(drive / "oxts" / "data", ".txt"), inverse(velo_from_imu))
            self._poses = {number: (_stamp(stamps, number, drive / "oxts"), pose) for number, pose in poses.items()}

    @property
    def inputs(self) -> dict[str, object]:
        tables = [self._folder.parent / f"calib_{name}.txt" for name in ("cam_to_cam", "velo_to_cam", "imu_to_velo")]
        tables += [self._folder / name / "timestamps.txt" for name in ("velodyne_points", "image_02")]
        firsts = [self._sweeps[0], *list(self._images.values())[:1]]
        return {
            "images": len(self._images), "poses": len(self._poses), "oxts": digest(self._folder / "oxts"),
            "files": file_digests(self._folder, [*tables, *firsts]),
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self._sweeps)

    def __getitem__(self, index: int) -> Recorded:
        path = self._sweeps[index]
        number = int(path.stem)
        points = read_sweep(path)
        views, images = (), {}
        if number in self._images:
            image = self._images[number]
            stamp = _stamp(self._image_stamps, number, image.parents[1])
            view, content = camera_view(image, stamp, self._intrinsics, self._camera_from_lidar, self._size)
            views, images = (view,), {CAMERA: content}
        stamp = _stamp(self._stamps, number, path.parents[1])
        poses = [self._poses[number]] if number in self._poses else []
        return Recorded(Frame(stamp, points[:, :3].copy(), views, points[:, 3].copy()), images, poses)


def open_kitti(folder: Path, scene: str | None = None) -> KittiFolder | KittiDrive:
    """folder: in one of the two layouts, or a date's folder with drives, of which `scene` names one."""
    if scene is None and (folder / "velodyne_points").is_dir():
        return KittiDrive(folder.resolve())
    drives = {path.parent.name: path.parent for path in folder.glob("*/velodyne_points")}
    if scene is None and not drives:
        return KittiFolder(folder)
    return KittiDrive(drive_folder(folder, scene, drives, "drive", "velodyne_points/data/0000000000.bin").resolve())


def kitti_raw_frames(folder: Path | str) -> Iterator[Frame]:
    """The frames of a `KittiFolder`."""
    recording = KittiFolder(Path(folder))
    for index in range(len(recording)):
        yield recording[index].frame


def convert_kitti(folder: Path, out: Path, /) -> None:
    """Write a KITTI raw drive, in either layout, as a bag."""
    write_bag(open_kitti(Path(folder)), out, {"dataset": "kitti", "folder": str(Path(folder).resolve())})


def read_calibration(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """K (3, 3) and camera_from_lidar (4, 4), both float64, so that pixel ~ P2 @ R0_rect @ Tr_velo_to_cam @ point."""
    if not path.is_file():
        raise ValueError(f"no calibration at {path}")
    values = matrices(path, {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)})
    rectify, camera_from_velo = np.eye(4), np.eye(4)
    rectify[:3, :3], camera_from_velo[:3] = values["R0_rect"], values["Tr_velo_to_cam"]
    return split_projection(values["P2"], rectify @ camera_from_velo, path)


def split_projection(projection: np.ndarray, reference: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """K (3, 3) and camera_from_lidar (4, 4) of a camera with projection (3, 4); reference: its sister's, (4, 4).

    K [I | t] carries the place of the colour camera beside the grey reference camera; t goes to the extrinsics.
    """
    intrinsics = projection[:, :3]
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or not np.array_equal(intrinsics[2], (0, 0, 1)):
        raise ValueError(f"P2 in {path} is no projection of a pinhole camera: its left part is {intrinsics.tolist()}")
    offset = np.eye(4)
    offset[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
    return intrinsics, offset @ reference


def matrices(path: Path, shapes: dict[str, tuple[int, int]], remedy: str = REMEDY) -> dict[str, np.ndarray]:
    """The named matrices of a file of lines `name: numbers`, float64."""
    rows = (line.partition(":") for line in read_text(path, remedy).splitlines())
    values = {name.strip(): text.split() for name, _, text in rows}
    found = {}
    for name, shape in shapes.items():
        try:
            found[name] = np.array(values[name], np.float64).reshape(shape)
            if not np.isfinite(found[name]).all():
                raise ValueError("not all are finite")
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} has no {name} of {shape[0]}x{shape[1]} numbers: {error}") from error
    return found


def camera_view(
    path: Path, stamp: int, intrinsics: np.ndarray, camera_from_lidar: np.ndarray, size: tuple[int, int] | None = None
) -> tuple[View, bytes]:
    """The view of the front camera, and the image's file. size: the calibration's (width, height), if it states one."""
    content, image = read_image(path)
    require_size(path, image, intrinsics, size, RECTIFIED)
    height, width = image.shape[:2]
    fx, fy, cx, cy = (float(intrinsics[at]) for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
    camera = CameraModel(width, height, fx, fy, cx, cy)
    return View(CAMERA, stamp, image, camera, camera_from_lidar), content


def check_first(paths: Iterable[Path], intrinsics: np.ndarray, size: tuple[int, int] | None = None) -> None:
    """Raise ValueError, before anything is written, if the first image that there is does not fit its calibration."""
    if (path := next((path for path in paths if isfile(path)), None)) is not None:
        require_size(path, read_image(path)[1], intrinsics, size, RECTIFIED)


def read_stamps(path: Path) -> dict[int, int]:
    """Number of the line, which is that of the frame, -> nanoseconds. Frames that are missing have an empty line.

    The clock is the recording computer's, without a time zone: taken for UTC.
    """
    stamps = {}
    for number, line in enumerate(read_text(path, "it comes with the drive").splitlines()):
        if line.strip():
            try:
                time = np.datetime64(line.strip().replace(" ", "T"), "ns")
                if np.isnat(time):
                    raise ValueError("it is none")
                stamps[number] = int(time.astype(np.int64))
            except ValueError as error:
                raise ValueError(f"{path}, line {number + 1}: {line!r} is no time such as "
                                 "2011-09-26 13:02:25.964389445") from error
    return stamps


def _stamp(stamps: dict[int, int], number: int, folder: Path) -> int:
    if number not in stamps:
        raise ValueError(f"{folder / 'timestamps.txt'} has no line {number + 1}, for frame {number}: fetch it again")
    return stamps[number]


def _size(path: Path) -> tuple[int, int] | None:
    """(width, height) of the rectified images of camera 2, None where the file does not state it."""
    if "S_rect_02:" not in read_text(path, REMEDY):
        return None
    width, height = matrices(path, {"S_rect_02": (1, 2)})["S_rect_02"][0]
    return round(width), round(height)


def _rigid(path: Path) -> np.ndarray:
    values = matrices(path, {"R": (3, 3), "T": (3, 1)})
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3:] = values["R"], values["T"]
    return transform
