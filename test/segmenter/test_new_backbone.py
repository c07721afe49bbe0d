"""A new backbone is one new file: it trains, adapts, is saved, loaded, segments and serves the node without a change
elsewhere."""

import os
import sys

import numpy as np
import pytest
import torch

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.baselines.adacontrast import AdaContrast
from tttkd_ros.baselines.dua import Dua
from tttkd_ros.baselines.tent import Tent
from tttkd_ros.messages.point_cloud import decode_field
from tttkd_ros.methods import METHODS
from tttkd_ros.segmenter import backbones
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.teacher.foundation_model import load_teacher
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.student_training import train_student

SOURCE = '''
"""A perceptron over the height and the inputs of each point."""

from dataclasses import dataclass

import torch
from torch import nn

from tttkd_ros.segmenter.backbones.base import Backbone, check_sizes


@dataclass(frozen=True)
class Options:
    channels: int = 8

    def __post_init__(self):
        check_sizes(channels=self.channels)


class Rows:
    def __init__(self, values):
        self.values, self.row = values, torch.arange(len(values), device=values.device)

    def __len__(self):
        return len(self.values)


class Network(Backbone):
    def __init__(self, options, inputs, voxel_size):
        super().__init__(inputs, voxel_size)
        self.channels = options.channels
        self.layers = nn.Sequential(nn.Linear(1 + inputs, options.channels), nn.BatchNorm1d(options.channels),
                                    nn.ReLU(), nn.Linear(options.channels, options.channels))

    def prepare(self, clouds, inputs=None, offsets=None):
        heights = torch.cat([cloud[:, 2:] for cloud in clouds])
        return Rows(heights if inputs is None else torch.cat([heights, torch.cat(list(inputs))], 1))

    def forward(self, prepared):
        return self.layers(prepared.values)
'''
CONFIG = TTTConfig(stride=1, steps=1, guard=False)
ADAPTERS = {"ttt-kd-o": OnlineTTTKD, "dua": Dua, "tent": Tent, "adacontrast": AdaContrast}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the new file, as one more folder of backbones."""
    folder = tmp_path_factory.mktemp("backbones")
    (folder / "heights.py").write_text(SOURCE)
    backbones.__path__.append(str(folder))
    yield folder
    backbones.__path__.remove(str(folder))
    sys.modules.pop(f"{backbones.__name__}.heights", None)


@pytest.fixture(scope="module")
def checkpoint(folder, models, tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    train_student(TrainingConfig(
        out=path, data=("sim:a2d2:1x2",), teacher=models.teacher, epochs=2, batch=2, backbone="heights",
        options=("channels=6",), features=("intensity",), workers=0,
    ))
    return path


def with_intensity(frame):
    frame.features["intensity"] = np.linspace(0, 1, len(frame.points), dtype=np.float32)
    return frame


def test_a_trained_student_is_saved_loaded_and_segments(checkpoint, make_frame):
    assert "heights" in backbones.names()
    student = load_student(checkpoint)
    assert (student.config.backbone, student.config.options) == ("heights", {"channels": 6})
    frame = with_intensity(make_frame())
    prediction = Segmenter(student, rotations=2).segment(frame.points, frame.features)
    assert prediction.labels.max() < len(student.config.class_set)


@pytest.mark.parametrize("method", ADAPTERS)
def test_it_adapts(checkpoint, models, make_frame, method):
    student, frame = load_student(checkpoint), with_intensity(make_frame())
    teacher = load_teacher(models.teacher, input_size=student.config.teacher_input, engine="eager")
    adapter = METHODS[method].build(student, teacher, 0)
    assert type(adapter) is ADAPTERS[method]
    before = adapter.weights()
    report = adapter.step(frame, CONFIG)
    assert report.accepted, report.reason
    after = adapter.weights()
    assert any(not torch.equal(after.tensors[name], tensor) for name, tensor in before.tensors.items())
    segmenter = Segmenter(METHODS[method].predictor(student))
    segmenter.load(after)
    assert segmenter.segment(frame.points, frame.features).version == 1


def test_the_node_labels_and_adapts_with_it(checkpoint, folder, models, start_node, ros, monkeypatch, tmp_path):
    # Python imports sitecustomize at the start of the node and of its training process.
    (tmp_path / "sitecustomize.py").write_text(
        f"from tttkd_ros.segmenter import backbones\nbackbones.__path__.append({str(folder)!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    node = start_node({
        "model": str(checkpoint), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager",
        "qos.reliability": "reliable", "qos.depth": 100, "queue": 100, "ttt.stride": 1, "matching.wait": 0.3,
    })
    node.wait_for("active: waiting for sweeps")
    node.wait_for("ready to adapt")
    talker, stamp = ros.Talker(), 100 * 10**9
    try:
        talker.until(talker.connected)
        talker.infos.publish(ros.info())
        talker.images.publish(ros.image(stamp))
        points = ros.points()
        (answer,) = talker.answer(ros.cloud(stamp, points))
        talker.until(lambda: stamp in talker.reports())
    finally:
        talker.close()
    expected = Segmenter(load_student(checkpoint)).segment(points[:, :3], {"intensity": points[:, 3]})
    np.testing.assert_array_equal(decode_field(answer, "label"), expected.labels)
    assert talker.reports()[stamp]["accepted"] == "true"
    assert node.end() == 0
