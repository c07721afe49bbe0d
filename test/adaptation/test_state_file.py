"""Adapted weights, saved and loaded: what fits, what is refused, and what a crash leaves."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import threading
from functools import partial
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.online import OnlineTTTKD
from tttkd_ros.adaptation.state_file import Origin, Provenance, load_state, save_state
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.segmenter.checkpoint import load_student, save_student
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.weights import Weights

PROVENANCE = Provenance("models/toy.safetensors", "/robot/segmenter", 57, "2025-01-02T03:04:05+00:00")
PATIENCE = 60  # seconds until a test that waits in vain fails
CONFIG = StudentConfig(voxel_size=0.3, options=dict(channels=4, levels=2), head_width=8, teacher_dim=6)


@pytest.fixture(scope="module")
def shipped() -> Student:
    torch.manual_seed(0)
    return Student(CONFIG).eval()


@pytest.fixture(scope="module")
def origin(shipped) -> Origin:
    return Origin.of(shipped)


def adapted(student: Student, version: int = 12) -> Weights:
    student = copy.deepcopy(student)
    with torch.no_grad():
        for number, parameter in enumerate(student.backbone.parameters()):
            parameter.add_(0.01 * version + 0.001 * number)
    return Weights.copied(version, student.backbone)


@pytest.fixture
def saved(shipped, origin, tmp_path):
    path = tmp_path / "adapted.safetensors"
    save_state(path, origin, adapted(shipped), TTTConfig(learning_rate=0.3), PROVENANCE)
    return path


def rewritten(path, tensors=None, **metadata):
    """The same file with some of its tensors or metadata replaced."""
    with safe_open(path, framework="pt") as file:
        stated = file.metadata() | metadata
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors(old) if tensors else old, path, stated)


def test_a_saved_file_is_loaded_bit_for_bit(shipped, origin, saved):
    loaded, expected = load_state(saved, origin), adapted(shipped)
    assert loaded.weights.version == expected.version == 12
    assert loaded.weights.tensors.keys() == expected.tensors.keys()
    assert all(torch.equal(tensor, expected.tensors[name]) for name, tensor in loaded.weights.tensors.items())


def test_a_file_holds_optimiser_and_provenance(origin, saved):
    loaded = load_state(saved, origin)
    assert (loaded.optimiser["name"], loaded.optimiser["learning_rate"]) == ("sgd", 0.3)
    assert loaded.provenance == PROVENANCE


def test_a_copy_of_the_checkpoint_is_the_same_origin(shipped, saved, tmp_path):
    save_student(shipped, tmp_path / "student.safetensors", {})
    load_state(saved, Origin.of(load_student(tmp_path / "student.safetensors")))


def test_a_pipeline_continues_from_loaded_weights(student, teacher, make_frame, tmp_path):
    def pipeline():
        build = partial(OnlineTTTKD, student, teacher)
        return Pipeline(student, build, TTTConfig(stride=1, guard=False), background=False)

    path, frame, origin = tmp_path / "adapted.safetensors", make_frame(), Origin.of(student)
    first, second = pipeline(), pipeline()
    first.adapt(0, lambda: frame)
    save_state(path, origin, first.weights, TTTConfig(), PROVENANCE)
    second.load_weights(load_state(path, origin).weights)
    again, expected = second.segment(frame.points), first.segment(frame.points)
    second.adapt(1, lambda: frame)
    assert again.version == expected.version == 1
    assert (again.confidence == expected.confidence).all()
    assert second.weights.version == 2


def test_weights_loaded_before_the_adapter_is_built_are_adapted_further(student, teacher, make_frame):
    gate, frame, loaded = threading.Event(), make_frame(), adapted(student, 5)

    def build():
        assert gate.wait(PATIENCE)
        return OnlineTTTKD(student, teacher)

    stepped = threading.Event()
    config = TTTConfig(stride=1, learning_rate=1e-3, guard=False)
    pipeline = Pipeline(student, build, config, background=True, on_report=lambda report: stepped.set())
    pipeline.load_weights(loaded)
    pipeline.adapt(0, lambda: frame)
    gate.set()
    assert stepped.wait(PATIENCE)
    pipeline.close()
    assert pipeline.weights.version == 6
    name, shipped = next(iter(student.backbone.named_parameters()))
    assert (loaded.tensors[name] - shipped).abs().min() > 0.04
    assert torch.allclose(pipeline.weights.tensors[name], loaded.tensors[name], atol=0.01)


def test_a_missing_file_is_named_with_the_remedy(origin, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere; save some, or name another file"):
        load_state(tmp_path / "nowhere", origin)


@pytest.mark.parametrize("keep", [0, 4, 300, -5])
def test_a_truncated_file_is_refused(origin, saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cut short.*; load another file, or save a new one"):
        load_state(saved, origin)


def test_a_student_checkpoint_is_refused(shipped, origin, tmp_path):
    save_student(shipped, tmp_path / "student.safetensors", {})
    with pytest.raises(ValueError, match="'tttkd_ros student 2'.*no adapted weights"):
        load_state(tmp_path / "student.safetensors", origin)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_loaded_nor_saved(shipped, origin, saved, value):
    def spoil(tensors):
        tensors[sorted(tensors)[3]].view(-1)[0] = value
        return tensors

    before = saved.read_bytes()
    weights = adapted(shipped)
    with pytest.raises(ValueError, match="is not finite.*reset"):
        save_state(saved, origin, Weights(1, spoil(dict(weights.tensors))), TTTConfig(), PROVENANCE)
    assert saved.read_bytes() == before
    rewritten(saved, spoil)
    with pytest.raises(ValueError, match="is not finite"):
        load_state(saved, origin)


def test_one_changed_bit_in_the_weights_is_refused(origin, saved):
    content = bytearray(saved.read_bytes())
    content[-3] ^= 1
    saved.write_bytes(content)
    with pytest.raises(ValueError, match="not those that were saved"):
        load_state(saved, origin)


def test_another_class_set_is_refused_with_the_names_of_both(origin, saved):
    with safe_open(saved, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
    rewritten(saved, config=json.dumps(config | {"class_set": "indoor"}), classes=json.dumps(["floor", "chair"]))
    with pytest.raises(ValueError) as refused:
        load_state(saved, origin)
    for part in ("'indoor' ['floor', 'chair']", "'outdoor10' ['car', 'truck'", "models/toy.safetensors", "start with"):
        assert part in str(refused.value)


def test_a_class_set_of_the_same_name_with_other_classes_is_refused(origin, saved):
    rewritten(saved, classes=json.dumps(["floor", "chair"]))
    with pytest.raises(ValueError, match=r"'outdoor10' \['floor', 'chair'\], but this model has 'outdoor10' \['car'"):
        load_state(saved, origin)


def test_another_backbone_is_refused_with_what_differs(saved):
    torch.manual_seed(0)
    other = Student(StudentConfig(voxel_size=0.3, options=dict(channels=8, levels=3), head_width=8, teacher_dim=6))
    with pytest.raises(ValueError, match="channels 4, but here 8, options.levels 2, but here 3; start with the model"):
        load_state(saved, Origin.of(other))


@pytest.mark.parametrize("part", ["backbone", "class_head", "teacher_head", "teacher_mean"])
def test_another_checkpoint_of_the_same_shape_is_refused(shipped, saved, part):
    other = copy.deepcopy(shipped)
    state = other.state_dict()
    state[next(name for name in state if name.startswith(part))].view(-1)[0].add_(1e-3)
    with pytest.raises(ValueError, match=r"models/toy.safetensors.*another checkpoint: SHA-256 \w{12}, .*start with"):
        load_state(saved, Origin.of(other))


def test_tensors_of_another_backbone_are_refused_by_name(origin, saved):
    def spoil(tensors):
        tensors["extra"] = tensors.pop(sorted(tensors)[0])
        return tensors

    rewritten(saved, spoil)
    with pytest.raises(ValueError, match="extra is unknown"):
        load_state(saved, origin)


def test_weights_of_another_backbone_are_not_saved(origin, tmp_path):
    weights = Weights(1, MappingProxyType({"odd": torch.zeros(2)}))
    with pytest.raises(ValueError, match="the tensors are not this backbone's"):
        save_state(tmp_path / "file", origin, weights, TTTConfig(), PROVENANCE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "metadata",
    [{"version": "-1"}, {"version": "true"}, {"version": "{"}, {"provenance": "{}"}, {"provenance": '{"model": 3}'},
     {"optimiser": "[]"}, {"config": "7"}, {"classes": "[" * 100_000}],
    ids=lambda metadata: next(f"{name}={value[:20]}" for name, value in metadata.items()),
)
def test_a_damaged_description_is_refused(origin, saved, metadata):
    rewritten(saved, **metadata)
    with pytest.raises(ValueError, match="the description of the weights is damaged"):
        load_state(saved, origin)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_loaded_as_saved_or_refused(data, shipped, origin, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    save_state(path, origin, adapted(shipped), TTTConfig(), PROVENANCE)
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little") + 8
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, data.draw(st.sampled_from([8, header, len(content)])) - 1))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    path.write_bytes(content)
    try:
        loaded = load_state(path, origin)
    except ValueError:
        return
    expected = adapted(shipped).tensors
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.weights.tensors.items())


def test_a_save_that_fails_leaves_the_old_file(shipped, origin, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_state(saved, origin, adapted(shipped, 13), TTTConfig(), PROVENANCE)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


# Imports once; then a child of its own saves without end until it is killed, again and again.
SAVING = """
import os, random, signal, sys, time
from dataclasses import replace
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.state_file import Origin, Provenance, load_state, save_state
from tttkd_ros.segmenter.checkpoint import load_student

student, path = sys.argv[1:]
student, draw, middle = load_student(student), random.Random(0), 0
origin, provenance = Origin.of(student), Provenance("toy", "test", 1, "now")
first = Weights.copied(1, student.backbone)

def scaled(version):
    return Weights(version, {name: tensor * (1 + version / 1000) for name, tensor in first.tensors.items()})

begin = time.monotonic()
save_state(path, origin, scaled(1), TTTConfig(), provenance)
usual = time.monotonic() - begin
kills = 0
while kills < 30 or middle < 2 and kills < 600:  # how many are in the middle of a write is the machine's doing
    kills += 1
    version = load_state(path, origin).weights.version
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.write(tell, b"begun")
        while True:
            version += 1
            save_state(path, origin, scaled(version), TTTConfig(), provenance)
    os.read(told, 5)
    time.sleep(draw.uniform(0, 3 * usual))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaded = load_state(path, origin).weights
    assert loaded.version >= version
    expected = scaled(loaded.version).tensors
    assert all(tensor.equal(expected[name]) for name, tensor in loaded.tensors.items())
    middle += len(os.listdir(os.path.dirname(path))) - 1
print(loaded.version, middle)
"""


def test_a_crash_in_the_middle_of_a_save_leaves_one_whole_state(tmp_path):
    torch.manual_seed(0)
    # So large that a save takes its time.
    large = StudentConfig(options=dict(channels=8, levels=3), head_width=8, teacher_dim=6)
    save_student(Student(large), tmp_path / "student.safetensors", {})
    command = [sys.executable, "-c", SAVING, tmp_path / "student.safetensors", tmp_path / "states" / "adapted"]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    saves, in_the_middle = map(int, child.stdout.split())
    assert saves > 1
    assert in_the_middle > 1  # else the kills have shown little
