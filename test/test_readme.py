"""What the README promises about parameters and commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

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


def test_every_command_that_is_named_exists():
    command_line = (PROJECT / "tttkd_ros" / "cli.py").read_text(encoding="utf-8")
    named = set(re.findall(r"`tttkd (\w+)", README))
    assert named
    assert named <= set(re.findall(r'"(\w+)":', command_line))
