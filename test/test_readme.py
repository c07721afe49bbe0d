"""What the README and docs/ name exists: links, commands, options, parameters, files and tests."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import yaml

from tttkd_ros.cli import main

PROJECT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(PROJECT)): path.read_text(encoding="utf-8")
    for path in [*sorted(PROJECT.glob("*.md")), *sorted(PROJECT.glob("docs/*.md")), PROJECT / "models" / "README.md"]
}
CURRENT = {name: text for name, text in PAGES.items() if name != "CHANGELOG.md"}  # which also names what was removed
EVERYTHING = "\n".join(CURRENT.values())
PARAMETERS = yaml.safe_load((PROJECT / "config" / "segment.yaml").read_text(encoding="utf-8"))["/**"]["ros__parameters"]


def commands() -> list[str]:
    """Every `tttkd` command line of the pages, without its comment."""
    inline = re.findall(r"`(tttkd [^`]+)`", EVERYTHING)
    blocks = re.findall(r"^(?:.*\bdo )?(?:\S*/)?(tttkd [a-z][^\n]*)$", EVERYTHING, re.MULTILINE)
    return sorted({re.split(r" #|;", line)[0].strip() for line in inline + blocks})


def options(monkeypatch, capsys, *verbs: str) -> set[str]:
    """The options that `tttkd VERBS --help` lists."""
    monkeypatch.setattr("sys.argv", ["tttkd", *verbs, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    return set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))


@cache
def headings(page: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@cache
def functions(file: str) -> set[str]:
    """Every function of a Python file."""
    tree = ast.parse((PROJECT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file_and_a_heading(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (PROJECT / page).parent / path if path else PROJECT / page
        assert file.exists(), target
        if anchor:
            assert anchor in headings(str(file.resolve().relative_to(PROJECT))), target


def test_the_index_lists_every_page():
    pages = {Path(page).name for page in PAGES if page.startswith("docs/")} - {"README.md"}
    assert pages <= set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/README.md"]))


def test_the_readme_is_short_and_has_two_small_pictures():
    assert len(PAGES["README.md"].splitlines()) <= 130
    pictures = re.findall(r"!\[[^]]+\]\((\S+)\)", PAGES["README.md"])
    assert len(pictures) == 2
    assert all((PROJECT / picture).stat().st_size < 300_000 for picture in pictures)


@pytest.mark.parametrize("command", commands())
def test_every_command_exists_with_its_options(monkeypatch, capsys, command):
    words = shlex.split(command)[1:]
    verbs = words[: 2 if words[0] == "train" else 1]
    assert {word for word in words if word.startswith("--")} <= options(monkeypatch, capsys, *verbs)


def test_every_option_in_the_tables_of_the_evaluation_page_exists(monkeypatch, capsys):
    cells = re.findall(r"^\| (`--[^|]+) \|", PAGES["docs/evaluation.md"], re.MULTILINE)
    assert cells
    assert set(re.findall(r"--[a-z-]+", " ".join(cells))) <= options(monkeypatch, capsys, "evaluate")


def test_the_parameter_table_is_that_of_the_parameter_file():
    _, table = PAGES["docs/node.md"].split("| Parameter | Default | |\n|---|---|---|\n")
    rows = re.findall(r"^\| `([\w.]+)` \|(?: `(.+?)`)? +\|", table, re.MULTILINE)
    assert {name: yaml.safe_load(default) if default else "" for name, default in rows} == PARAMETERS


@pytest.mark.parametrize("page", CURRENT)
def test_every_parameter_that_is_named_exists(page):
    groups = "|".join(sorted({name.partition(".")[0] for name in PARAMETERS if "." in name}))
    named = re.findall(rf"`((?:{groups})\.[a-z_]+)\b(?!\.[a-z])", CURRENT[page])
    assert {name for name in named if not name.endswith((".md", ".py", ".yaml"))} <= PARAMETERS.keys()


def test_every_make_target_exists():
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make (\w+)", EVERYTHING, re.MULTILINE))
    assert named
    assert named <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_every_launch_argument_exists():
    source = "".join(path.read_text(encoding="utf-8") for path in (PROJECT / "launch").glob("*.py"))
    lines = re.findall(r"^ros2 launch tttkd_ros .+$|`ros2 launch tttkd_ros [^`]+`", EVERYTHING, re.MULTILINE)
    named = set(re.findall(r"(\w+):=", " ".join(lines)))
    assert named
    assert {name for name in named if f'"{name}"' not in source} == set()


@pytest.mark.parametrize("page", CURRENT)
def test_every_file_that_is_named_exists(page):
    folders, endings = "tttkd_ros|config|benchmarks|docs|test", "py|yaml|xml|md"
    named = re.findall(rf"(?<![\w/.])((?:{folders})/[\w/.]*\.(?:{endings}))", CURRENT[page])
    assert {path for path in named if "NAME" not in path and not (PROJECT / path).exists()} == set()
    modules = re.findall(r"python -m (tttkd_ros[\w.]*)", CURRENT[page])
    assert {name for name in modules if not (PROJECT / f"{name.replace('.', '/')}.py").exists()} == set()


def test_every_test_that_the_table_of_inputs_names_exists():
    file, named = "", set()
    for path, name in re.findall(r"(test/[\w/]+\.py)?(?:::(\w+))?", PAGES["docs/inputs.md"]):
        file = path or file
        if name:
            named.add((file, name))
    assert named
    assert {f"{file}::{name}" for file, name in named if name not in functions(file)} == set()
