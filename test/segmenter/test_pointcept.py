"""Checkpoints in Pointcept's layout, made of this project's own names."""

from __future__ import annotations

import os
import random
from collections import OrderedDict

import numpy as np
import pytest
import torch

from tttkd_ros.classes import load_class_set
from tttkd_ros.cli import main
from tttkd_ros.segmenter.checkpoint import describe, load_student
from tttkd_ros.segmenter.pointcept import import_student
from tttkd_ros.segmenter.segmenter import Segmenter
from tttkd_ros.segmenter.student import Student, StudentConfig

INPUTS = {"position": 1.0, "intensity": 1.0}
NUSCENES = load_class_set("nuscenes16")
CONFIG = StudentConfig(
    class_set=load_class_set("semantickitti19"), voxel_size=0.1, backbone="spunet34c", inputs=INPUTS, head_width=0,
    teacher_dim=0,
    options=dict(base_channels=4, channels=(4, 6, 8, 5), layers=(1, 2, 2, 1)),
)
FINAL = "module.backbone.final.weight"


def segmentor(student):
    """The state dict of Pointcept's DefaultSegmentor with the weights of a student."""
    state = OrderedDict()
    for name, tensor in student.state_dict().items():
        if tensor.ndim == 2:  # a linear layer: a kernel, whose numbers spconv takes as (in, out)
            tensor = tensor.T.reshape(len(tensor), 1, 1, 1, -1)
        if name != "teacher_mean":
            state["module." + name.replace("class_head", "backbone.final")] = tensor
    return state


@pytest.fixture
def student():
    torch.manual_seed(0)
    return Student(CONFIG).eval()


@pytest.fixture
def write(tmp_path, student):
    def write(state=None, **more):
        """Write what Pointcept's trainer does, with changes of the state dict."""
        parameter = torch.nn.Parameter(torch.ones(3))
        optimiser = torch.optim.AdamW([parameter])
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=5).state_dict()
        scheduler["anneal_func"] = torch.optim.lr_scheduler.OneCycleLR._annealing_cos  # as torch 1 saves it
        content = {"epoch": 1, "state_dict": segmentor(student) | (state or {}), "optimizer": optimiser.state_dict(),
                   "scheduler": scheduler, "best_metric_value": np.float64(0.5)}
        torch.save(content | more, tmp_path / "model_best.pth")
        return tmp_path / "model_best.pth"

    return write


def imported(path, backbone="spunet34c", class_set=CONFIG.class_set, inputs=INPUTS):
    return import_student(path, backbone, class_set, CONFIG.voxel_size, inputs)


def test_a_checkpoint_of_the_trainer_becomes_a_student(student, write):
    result = imported(write())
    assert (result.config, result.training) == (CONFIG, False)
    expected = student.state_dict()
    assert result.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.state_dict().items())


def test_the_student_segments(write):
    points = np.random.default_rng(0).uniform(-3, 3, (200, 3)).astype(np.float32)
    labels = Segmenter(imported(write())).segment(points, {"intensity": np.ones(200, np.float32)}).labels
    assert labels.max() < len(CONFIG.class_set)


def test_prefixes_may_be_missing(student, write):
    state = {name.removeprefix("module.backbone."): tensor for name, tensor in segmentor(student).items()}
    result = imported(write(state_dict=state))
    assert torch.equal(result.class_head.weight, student.class_head.weight)


def test_a_head_beside_the_backbone_is_the_class_head(student, write):
    state = {name: tensor for name, tensor in segmentor(student).items() if ".final." not in name}
    state |= {f"module.seg_head.{name}": tensor + 1 for name, tensor in student.class_head.state_dict().items()}
    assert torch.equal(imported(write(state_dict=state)).class_head.weight, student.class_head.weight + 1)


def test_half_precision_becomes_float32(student, write):
    state = {name: tensor.half() if tensor.is_floating_point() else tensor
             for name, tensor in segmentor(student).items()}
    assert imported(write(state)).class_head.weight.dtype == torch.float32


@pytest.mark.parametrize(("changes", "message"), [
    ({"module.backbone.extra": torch.ones(2)}, "backbone.extra is unknown"),
    ({"module.backbone.down.1.0.weight": torch.ones(6, 3, 3, 3, 4)}, r"down.1.0.weight has shape .*; check"),
    ({"module.backbone.conv_input.0.weight": torch.ones(4, 5, 5, 5, 6)}, r"\(4, 5, 5, 5, 6\), expected .*inputs"),
    ({"module.backbone.conv_input.0.weight": torch.tensor(1.0)}, "no weights of a SpUNet"),
    ({"module.backbone.conv_input.0.weight": torch.ones(70000, 0)}, "base_channels is 70000"),
    ({FINAL: torch.ones(16, 1, 1, 1, 5)}, "the head has 16 classes, but class set 'semantickitti19' has 19"),
    ({FINAL: torch.tensor(1.0)}, "the head has 1 classes"),
    ({FINAL: torch.ones(19, 1, 1, 1, 7)}, "class_head.weight has shape"),
    ({FINAL: np.ones(3)}, "'module.backbone.final.weight' in state_dict is a _reconstruct, expected a named tensor"),
    ({FINAL: torch.ones(3).to_sparse()}, "sparse"),
    ({FINAL: torch.ones(3, device="meta")}, "has no values"),
    ({3: torch.ones(3)}, "3 in state_dict is a Tensor, expected a named tensor"),
])
def test_weights_that_do_not_fit_are_one_clear_line(write, changes, message):
    path = write(changes)
    with pytest.raises(ValueError, match=f"model_best.pth: .*{message}") as error:
        imported(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"backbone": "scn"}, "backbone scn is none of Pointcept's"), ({"backbone": "resnet"}, "backbone 'resnet' is unk"),
    ({"class_set": NUSCENES}, "the head has 19 classes, but class set 'nuscenes16' has 16"),
    ({"inputs": {"smell": 1.0}}, "inputs is"),
    ({"inputs": {"intensity": 1.0}}, r"has shape \(4, 5, 5, 5, 4\), expected \(4, 5, 5, 5, 1\).*\['intensity'\]"),
])
def test_arguments_that_do_not_fit_are_refused(write, arguments, message):
    with pytest.raises(ValueError, match=message):
        imported(write(), **arguments)


def test_a_backbone_without_a_head_is_refused(student, write):
    state = {name: tensor for name, tensor in segmentor(student).items() if ".final." not in name}
    with pytest.raises(ValueError, match="class_head.weight and class_head.bias is missing"):
        imported(write(state_dict=state))


@pytest.mark.parametrize("content", [[1], torch.ones(2), {"state_dict": {}}, {"state_dict": [1]}, {"model": {}}])
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="other.pth: no state_dict"):
        imported(tmp_path / "other.pth")


class Harmful:
    """An object whose pickle makes a call."""

    def __init__(self, function, *arguments):
        self.call = function, tuple(map(str, arguments))

    def __reduce__(self):
        return self.call


def test_no_code_of_the_pickle_runs(tmp_path, write):
    made = tmp_path / "made"
    imported(write(extra=Harmful(open, made, "w")))
    with pytest.raises(ValueError, match="posix.mkdir"):
        imported(write(extra=Harmful(os.mkdir, made)))
    with pytest.raises(ValueError, match="expected a named tensor"):
        imported(write({FINAL: Harmful(open, made, "w")}))
    assert [path.name for path in tmp_path.iterdir()] == ["model_best.pth"]


def test_damaged_files_are_refused_or_load(tmp_path, write):
    content = write().read_bytes()
    generator = random.Random(0)
    refused = 0
    for number in range(60):
        damaged = bytearray(content)
        if number % 2:
            damaged = damaged[: generator.randrange(len(damaged))]
        else:
            start = generator.randrange(len(damaged))
            damaged[start : start + 200] = generator.randbytes(200)
        (tmp_path / "damaged.pth").write_bytes(damaged)
        try:
            imported(tmp_path / "damaged.pth")
        except ValueError as error:
            refused += 1
            assert "damaged.pth: " in str(error)
    assert refused > 30


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["tttkd", "import", "pointcept", *map(str, arguments)])
    main()


def test_the_command_writes_a_student(monkeypatch, capsys, student, tmp_path, write):
    out = tmp_path / "student.safetensors"
    run(monkeypatch, write(), out, "--backbone", "spunet34c", "--class-set", "semantickitti19", "--voxel-size", 0.1,
        "--inputs", "position", 1, "intensity", 1)
    assert "19 classes" in capsys.readouterr().out
    assert describe(out) == (CONFIG, {"data": "Pointcept", "checkpoint": "model_best.pth"})
    assert torch.equal(load_student(out).class_head.weight, student.class_head.weight)


def test_the_command_says_in_one_line_what_is_wrong(monkeypatch, capsys, tmp_path):
    with pytest.raises(SystemExit):
        run(monkeypatch, tmp_path / "nothing.pth", tmp_path / "out", "--backbone", "spunet34c", "--class-set",
            "semantickitti19", "--inputs", "position", 1)
    assert capsys.readouterr().err.startswith("tttkd: no checkpoint at ")


def test_a_ptv3_becomes_a_student_with_the_same_weights(tmp_path):
    torch.manual_seed(0)
    options = dict(channels=(16, 32), depths=(1, 1), heads=(1, 2), decoder_channels=(32,), decoder_depths=(1,),
                   decoder_heads=(2,), strides=(2,))
    config = StudentConfig(class_set=NUSCENES, voxel_size=0.1, backbone="ptv3", inputs=INPUTS, head_width=0,
                           teacher_dim=0, options=options)
    student = Student(config).eval()
    state = {"module." + name.replace("class_head", "seg_head"): tensor
             for name, tensor in student.state_dict().items() if name != "teacher_mean"}
    torch.save({"state_dict": state}, tmp_path / "ptv3.pth")
    result = imported(tmp_path / "ptv3.pth", "ptv3", NUSCENES)
    assert result.config == config
    expected = student.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in result.state_dict().items())
