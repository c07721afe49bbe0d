"""KITTI recordings in both layouts, each input with damage to one of the files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tttkd_ros.datasets.kitti import open_kitti

from . import inputs

P2 = "7.2e+02 0 6.1e+02 4.4e+01 0 7.2e+02 1.7e+02 2.1e-01 0 0 1 2.7e-03"
TURNED = "0 -1 0 0 0 -1 1 0 0"
TIMES = "2011-09-26 13:02:25.964389445\n2011-09-26 13:02:26.064389445\n"
RNG = np.random.default_rng(0)
IMAGE = cv2.imencode(".png", RNG.integers(0, 255, (24, 32, 3), np.uint8))[1].tobytes()
SWEEP = RNG.random((10, 4), np.float32).tobytes()
FOLDER = {
    "calib.txt": f"P2: {P2}\nR0_rect: 1 0 0 0 1 0 0 0 1\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27\n",
    "0000000000.bin": SWEEP,
    "0000000000.png": IMAGE,
}
DRIVE = {
    "calib_cam_to_cam.txt": f"P_rect_02: {P2}\nR_rect_00: 1 0 0 0 1 0 0 0 1\n",
    "calib_velo_to_cam.txt": f"R: {TURNED}\nT: 0 -0.08 -0.27\n",
    "calib_imu_to_velo.txt": "R: 1 0 0 0 1 0 0 0 1\nT: -0.81 0.32 -0.8\n",
    "drive/velodyne_points/timestamps.txt": TIMES,
    "drive/velodyne_points/data/0000000001.bin": SWEEP,
    "drive/image_02/timestamps.txt": TIMES,
    "drive/image_02/data/0000000001.png": IMAGE,
    "drive/oxts/timestamps.txt": TIMES,
    "drive/oxts/data/0000000000.txt": "49.0 8.4 116.4 0.035 0.004 -2.6",
    "drive/oxts/data/0000000001.txt": "49.00001 8.4 116.4 0.035 0.004 -2.6",
}


def laid_out(folder: Path, files: dict[str, str | bytes]) -> dict[str, bytes]:
    """Writes the files; their contents as bytes."""
    contents = {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


@pytest.mark.parametrize(("files", "start"), [(FOLDER, "."), (DRIVE, "drive")], ids=["folder", "drive"])
def test_recordings(fuzz, folder, files, start):
    contents = laid_out(folder / "kitti", files)
    names = sorted(contents)
    damage = {name: inputs.damaged(content) for name, content in contents.items()}

    def make(tape) -> tuple[str, bytes]:
        name = tape.choose(names)
        return name, damage[name](tape)

    def take(given: tuple[str, bytes]) -> None:
        name, content = given
        (folder / "kitti" / name).write_bytes(content)
        try:
            recording = open_kitti(folder / "kitti" / start)
            for recorded in (recording[index] for index in range(len(recording))):
                assert all(np.isfinite(view.camera_from_lidar).all() for view in recorded.frame.views)
                assert all(np.isfinite(pose).all() for _, pose in recorded.poses)
        finally:
            (folder / "kitti" / name).write_bytes(contents[name])

    fuzz(make, take)
