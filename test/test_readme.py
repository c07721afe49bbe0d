"""What the README promises about parameters and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tttkd_ros.cli import main

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_parameter_table_is_that_of_the_parameter_file():
    _, table = README.split("| Parameter | Default | |\n|---|---|---|\n")
    rows = re.findall(r"^\| `([\w.]+)` \|(?: `(.+?)`)? \|", table, re.MULTILINE)
    described = {name: yaml.safe_load(default) if default else "" for name, default in rows}
    file = yaml.safe_load((PROJECT / "config" / "segment.yaml").read_text(encoding="utf-8"))
    assert described == file["/**"]["ros__parameters"]


def test_make_has_every_target_that_is_named():
    named = set(re.findall(r"`make (\w+)`", README))
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    assert named
    assert named <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`tttkd ([a-z]+(?: [a-z]+\b)?)", README))))
def test_every_command_that_is_named_exists(monkeypatch, command):
    monkeypatch.setattr("sys.argv", ["tttkd", *command.split(), "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
