"""Rig files, as text and as what YAML makes of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from tttkd_ros.geometry.rig import RigCamera, load_rig, save_rig

from . import inputs


@pytest.fixture
def path(folder):
    return folder / "rig.yaml"


@pytest.fixture
def take(path):
    def taken(content: bytes) -> None:
        path.write_bytes(content)
        for entry in load_rig(path).values():
            assert np.isfinite(entry.camera_from_lidar).all()
            if entry.camera is not None:
                entry.camera.project(torch.tensor([[0.0, 0, 1], [1, 2, 3]]))

    return taken


@pytest.fixture
def rigs(drive):
    view = drive[0].views[0]
    whole = RigCamera(view.camera_from_lidar, view.camera)
    return {"both": whole, "bare": RigCamera(view.camera_from_lidar)}


def test_rigs_as_text(fuzz, rigs, path, take):
    save_rig(path, rigs)
    fuzz(inputs.damaged(path.read_bytes(), b"cameras: {a: &x {camera_from_lidar: {matrix: [[1, 0]]}}, b: *x}\n"), take)


def test_rigs_as_documents(fuzz, take):
    info = {"width": 8, "height": 6, "k": [5.0, 0, 4, 0, 5, 3, 0, 0, 1], "d": [0.1, 0, 0, 0]}
    info["distortion_model"] = "plumb_bob"
    matrix = {"matrix": [[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]}
    place = {"translation": [0.0, 0.1, 0], "rotation": [0.0, 0, 0, 1]}
    rig = {"cameras": {"one": {"camera_from_lidar": matrix, "camera_info": info}, "two": {"camera_from_lidar": place}}}
    change = inputs.changed(rig)
    fuzz(lambda tape: json.dumps(change(tape)).encode(), take)  # which is YAML as well
