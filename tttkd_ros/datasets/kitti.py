"""KITTI raw sequences: HDL-64E sweeps with the left colour camera."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.stamps import SECOND

CAMERA = "camera_front"  # as in config/rigs/kitti.yaml
PERIOD = SECOND // 10  # the sequences carry no stamps; the sensor turns at 10 Hz
START = 1_317_000_000 * SECOND  # on the recording's day: stamp 0 has a meaning of its own in tf


def kitti_raw_frames(folder: Path | str) -> Iterator[Frame]:
    """The frames of a folder with <n>.bin (N, 4) float32 x y z intensity, <n>.png and calib.txt, in name order.

    calib.txt has P2 (3x4), R0_rect (3x3) and Tr_velo_to_cam (3x4). A sweep without a PNG has no view. Raises ValueError
    for a folder without sweeps, and for files that are not that.
    """
    folder = Path(folder)
    sweeps = sorted(folder.glob("*.bin"))
    if not sweeps:
        raise ValueError(f"{folder} holds no sweeps: expected files such as 0000000000.bin")
    intrinsics, camera_from_lidar = read_calibration(folder / "calib.txt")
    for index, path in enumerate(sweeps):
        stamp = START + index * PERIOD
        points = read_sweep(path)
        picture = path.with_suffix(".png")
        views = ()
        if picture.is_file():
            image = _read_image(picture)
            height, width = image.shape[:2]
            camera = CameraModel(
                width, height, intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
            )
            views = (View(CAMERA, stamp, image, camera, camera_from_lidar),)
        yield Frame(stamp, points[:, :3].copy(), views, points[:, 3].copy())


def convert_kitti(folder: Path, out: Path, /) -> None:
    """Write a KITTI raw sequence as a bag.

    Args:
        folder: holds 0000000000.bin, 0000000000.png, ... and calib.txt.
        out: the bag's directory; it must not exist.
    """
    from tttkd_ros.bags.writer import BagWriter

    with BagWriter(out) as bag:
        for frame in kitti_raw_frames(folder):
            bag.write_frame(frame)


def read_calibration(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """K (3, 3) and camera_from_lidar (4, 4), both float64, so that pixel ~ P2 @ R0_rect @ Tr_velo_to_cam @ point.

    P2 = K [I | t] carries the place of the colour camera beside the grey reference camera; t goes to the extrinsics.
    """
    if not path.is_file():
        raise ValueError(f"no calibration at {path}")
    rows = (line.partition(":") for line in path.read_text(errors="replace").splitlines())
    values = {name.strip(): text.split() for name, _, text in rows}
    projection = _matrix(path, values, "P2", (3, 4))
    rectify, camera_from_velo = np.eye(4), np.eye(4)
    rectify[:3, :3] = _matrix(path, values, "R0_rect", (3, 3))
    camera_from_velo[:3] = _matrix(path, values, "Tr_velo_to_cam", (3, 4))
    intrinsics = projection[:, :3]
    if intrinsics[0, 0] <= 0 or intrinsics[1, 1] <= 0 or not np.array_equal(intrinsics[2], (0, 0, 1)):
        raise ValueError(f"P2 in {path} is no projection of a pinhole camera: its left part is {intrinsics.tolist()}")
    offset = np.eye(4)
    offset[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
    return intrinsics, offset @ rectify @ camera_from_velo


def read_sweep(path: Path) -> np.ndarray:
    """(N, 4) float32: x, y, z in metres, intensity."""
    values = np.fromfile(path, "<f4")
    if path.stat().st_size % 16:
        raise ValueError(f"{path} holds {path.stat().st_size} bytes, expected a multiple of 16 (four float32 a point)")
    return values.reshape(-1, 4)


def _read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} cannot be decoded as an image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _matrix(path: Path, values: dict[str, list[str]], name: str, shape: tuple[int, int]) -> np.ndarray:
    try:
        return np.array(values[name], np.float64).reshape(shape)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} has no {name} of {shape[0]}x{shape[1]} numbers") from error
