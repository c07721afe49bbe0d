"""A recorded KITTI sequence, file by file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tttkd_ros.datasets.kitti import kitti_raw_frames

from . import inputs

CALIBRATION = """P2: 7.2e+02 0 6.1e+02 4.4e+01 0 7.2e+02 1.7e+02 2.1e-01 0 0 1 2.7e-03
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
"""


@pytest.fixture
def sequence(folder):
    path = folder / "sequence"
    path.mkdir()
    (path / "calib.txt").write_text(CALIBRATION)
    rng = np.random.default_rng(0)
    rng.random((10, 4), np.float32).tofile(path / "0000000000.bin")
    cv2.imwrite(str(path / "0000000000.png"), rng.integers(0, 255, (24, 32, 3), np.uint8))
    return path


@pytest.mark.parametrize("name", ["calib.txt", "0000000000.bin", "0000000000.png"])
def test_files_of_a_sequence(fuzz, sequence, name):
    def take(content: bytes) -> None:
        (sequence / name).write_bytes(content)
        for frame in kitti_raw_frames(sequence):
            assert all(np.isfinite(view.camera_from_lidar).all() for view in frame.views)

    fuzz(inputs.damaged((sequence / name).read_bytes()), take)
