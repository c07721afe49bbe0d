"""The tutorial's commands lead from recordings to a student, here of a few sweeps and steps."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tttkd_ros.classes import load_class_set
from tttkd_ros.cli import main
from tttkd_ros.segmenter.checkpoint import load_student

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "tutorial.md").read_text(encoding="utf-8")
SMALLER = {r"--sweeps \d+": "--sweeps 4", r"--every \d+": "--every 2", r"--steps \d+": "--steps 2"}
SMALL_STUDENT = ["--options", "channels=4", "levels=2", "--voxel-size", "0.4", "--batch", "2", "--workers", "0"]


def commands(verb: str) -> list[list[str]]:
    """The page's command lines with this verb, of fewer sweeps and steps."""
    found = re.findall(rf"^tttkd {verb} .*$", PAGE, re.MULTILINE)
    for pattern, text in SMALLER.items():
        found = [re.sub(pattern, text, line) for line in found]
    return [shlex.split(line)[1:] for line in found]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """The folder after the steps that come before the training."""
    folder = tmp_path_factory.mktemp("tutorial")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        classes = re.search(r"^cat > my_classes.yaml <<'END'\n(.*?)^END$", PAGE, re.MULTILINE | re.DOTALL)
        Path("my_classes.yaml").write_text(classes[1])
        for command in (*commands("simulate")[:2], *commands("export")):
            patch.setattr("sys.argv", ["tttkd", *command])
            main()
    for bag in ("east", "west"):
        shutil.copytree(folder / "to_label" / bag / "labels", folder / bag / "labels")
        shutil.copy(folder / "to_label" / "classes.yaml", folder / bag)
    return folder


def test_the_trainings_make_a_student_of_the_readers_classes(recordings, monkeypatch):
    monkeypatch.chdir(recordings)
    for command in commands("train student"):
        monkeypatch.setattr("sys.argv", ["tttkd", *command, *SMALL_STUDENT])
        main()
    student = load_student(recordings / "my_student" / "student.safetensors")
    assert student.config.class_set == load_class_set(recordings / "my_classes.yaml")
    assert (recordings / "my_student" / "check.png").is_file()
