import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.paths import STUDENT, shipped_path
from tttkd_ros.segmenter.checkpoint import describe, load_student, save_student
from tttkd_ros.segmenter.student import Student, StudentConfig

SMALL = StudentConfig(
    options=dict(channels=4, levels=2), head_width=8, teacher_dim=6, teacher_input=(28, 56), teacher_name="toy"
)
INDOOR = ClassSet("indoor", ("floor", "chair"), ((0, 0, 0), (9, 9, 9)), {"outdoor10": {"road": "floor"}})


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    student = Student(SMALL)
    student.teacher_mean.normal_()
    path = tmp_path / "deep" / "student.safetensors"
    save_student(student, path, {"seed": "7"})
    return student, path


def rewritten(path, tensors=None, **metadata):
    """The same file with some of its tensors or metadata replaced."""
    with safe_open(path, framework="pt") as file:
        stated = file.metadata() | metadata
        old = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors(old) if tensors else old, path, stated)


def test_a_saved_student_is_loaded_in_eval_mode(saved):
    student, path = saved
    loaded = load_student(path)
    assert loaded.config == SMALL
    assert not loaded.training
    expected = student.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_describe_returns_configuration_and_provenance(saved):
    assert describe(saved[1]) == (SMALL, {"seed": "7"})


def test_saving_leaves_nothing_but_the_file(saved):
    save_student(*saved, {})
    assert [file.name for file in saved[1].parent.iterdir()] == ["student.safetensors"]


def test_a_failed_save_keeps_the_old_file(saved, monkeypatch):
    student, path = saved
    before = path.read_bytes()

    def fail(_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_student(student, path, {})
    assert path.read_bytes() == before
    assert len(list(path.parent.iterdir())) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_student(tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 300, -5])
def test_a_truncated_file_is_refused(saved, keep):
    path = saved[1]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cut short"):
        load_student(path)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="expected 'tttkd_ros student 2'"):
        load_student(path)


def test_another_class_set_is_refused_with_both(saved):
    with pytest.raises(ValueError, match="outdoor10.*truck.*, but class set 'indoor' .floor, chair. is asked for"):
        load_student(saved[1], class_set=INDOOR)


def test_a_set_of_the_users_own_is_in_the_checkpoint(tmp_path):
    config = replace(SMALL, class_set=INDOOR)
    save_student(Student(config), tmp_path / "own.safetensors", {})
    assert load_student(tmp_path / "own.safetensors").config == describe(tmp_path / "own.safetensors")[0] == config


def test_older_checkpoints_have_the_names_of_a_built_in_set(saved):
    rewritten(saved[1], classes=json.dumps(OUTDOOR.names))
    assert load_student(saved[1]).config == SMALL


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("outdoor10", ["car", "tree"], "class_set 'outdoor10' with the classes .*tree.*truck"),
        ("indoor", ["floor"], "class_set 'indoor' is unknown, expected one of nuscenes16"),
        ("/etc/hosts", ["floor"], "class_set '/etc/hosts' is unknown"),
        ("indoor", OUTDOOR.content, "class_set 'indoor' with the classes"),
        ("outdoor10", OUTDOOR.content | {"classes": {}}, "it has 0 classes"),
    ],
)
def test_other_classes_than_those_of_its_set_are_refused(saved, name, classes, words):
    rewritten(saved[1], config=json.dumps(SMALL.plain | {"class_set": name}), classes=json.dumps(classes))
    with pytest.raises(ValueError, match=words):
        load_student(saved[1])


def test_the_shipped_student_is_of_the_outdoor_classes():
    assert describe(shipped_path(STUDENT))[0].class_set == OUTDOOR


def test_weights_that_miss_their_configuration_are_refused_by_name(saved):
    def change(tensors):
        tensors["teacher_mean"] = torch.zeros(5)
        tensors["extra"] = tensors.pop("class_head.0.bias")
        return tensors

    rewritten(saved[1], change)
    with pytest.raises(ValueError) as error:
        load_student(saved[1])
    for part in ("class_head.0.bias is missing", "extra is unknown", r"teacher_mean has shape (5,), expected (6,)"):
        assert part in str(error.value)


def test_a_configuration_of_another_version_is_refused_by_field(saved):
    rewritten(saved[1], config=json.dumps(SMALL.plain | {"colour": "red"}))
    with pytest.raises(ValueError, match="colour"):
        load_student(saved[1])


@pytest.mark.parametrize("name", ["config", "classes", "provenance"])
@pytest.mark.parametrize("content", ["{", "3", "[" * 100_000])
def test_a_damaged_description_is_named(saved, name, content):
    rewritten(saved[1], **{name: content})
    with pytest.raises(ValueError, match="the description of the model is damaged"):
        load_student(saved[1])


@pytest.mark.parametrize(("setting", "value"), [
    ("class_set", ["outdoor10"]), ("voxel_size", "0.1"), ("voxel_size", float("nan")), ("options", None),
    ("options", {"channels": 1.5}), ("options", {"levels": 14}), ("options", {"levels": 10**400}),
    ("options", {"repetitions": True}), ("options", {"depth": 3}), ("backbone", "scm"), ("backbone", ["scn"]),
    ("backbone", "base"), ("inputs", {"smell": 1}), ("inputs", {"intensity": 0}), ("inputs", ["intensity"]),
    ("teacher_dim", 2**31), ("teacher_input", None), ("teacher_input", [28]), ("teacher_input", ["28", 56]),
    ("teacher_name", 3),
])
def test_a_bad_setting_is_named(saved, setting, value):
    rewritten(saved[1], config=json.dumps(SMALL.plain | {setting: value}))
    with pytest.raises(ValueError, match=f"student.safetensors: .*{setting.removesuffix('s').replace('_', '.')}"):
        load_student(saved[1])


@pytest.mark.parametrize("changes", [
    dict(options=dict(channels=2**15)), dict(options=dict(repetitions=64)), dict(teacher_dim=2**15),
])
def test_a_larger_model_is_refused_before_it_is_made(saved, changes):
    rewritten(saved[1], config=json.dumps(SMALL.plain | changes))
    with pytest.raises(ValueError, match="the weights do not fit their own configuration"):
        load_student(saved[1])


def test_weights_of_another_type_are_refused_by_name(saved):
    rewritten(saved[1], lambda tensors: tensors | {"teacher_mean": tensors["teacher_mean"].long()})
    with pytest.raises(ValueError, match="teacher_mean is torch.int64, expected torch.float32"):
        load_student(saved[1])


@pytest.mark.parametrize(("provenance", "simulated"), [({"data": "simulation"}, True), ({"data": "a robot"}, False),
                                                       ({}, False)])
def test_the_provenance_states_a_training_in_simulation(tmp_path, provenance, simulated):
    save_student(Student(SMALL), tmp_path / "student.safetensors", provenance)
    assert load_student(tmp_path / "student.safetensors").simulated == simulated
