"""What an installation brings: every file, every requirement, commands where pip and ROS look for them."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

PROJECT = Path(__file__).resolve().parents[1]
CODE = ("tttkd_ros", "launch")
# By a requirement of another name: the first must choose the release that fits it, the second may not be installed, and
# ROS's package tf2_ros is the C++ library alone.
BROUGHT = {"tensorrt": "torch-tensorrt", "rerun": "rerun-sdk", "tf2_ros": "tf2_ros_py"}
ROS_MODULES = re.compile(r"rclpy|rosidl_\w+|tf2_\w+|launch\w*|\w+_(msgs|srvs|interfaces)")


def imports(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def normalised(name: str) -> str:
    """A distribution's name without version, extras and marker, as PEP 503 compares names."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name).group()).lower()


@pytest.fixture(scope="module")
def setup_arguments() -> dict:
    """What setup.py hands to setuptools."""
    arguments = {}
    patch = pytest.MonkeyPatch()
    patch.chdir(PROJECT)
    patch.setattr("setuptools.setup", lambda **given: arguments.update(given))
    try:
        runpy.run_path("setup.py")
    finally:
        patch.undo()
    return arguments


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the project, because building writes into its folder."""
    copy = tmp_path_factory.mktemp("source") / "tttkd_ros"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "install", "log", "*_output", "test")
    return Path(shutil.copytree(PROJECT, copy, ignore=unwanted))


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    finished = subprocess.run(
        command, cwd=cwd, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert finished.returncode == 0, finished.stdout
    return finished.stdout


def libraries(prefix: Path) -> str:
    (folder,) = prefix.glob("lib/python3*/site-packages")
    return str(folder)


@pytest.mark.parametrize("folder", ["launch", "config", "models"])
def test_every_file_of_the_folder_ships_under_share(setup_arguments, folder):
    shipped = {(target, name) for target, names in setup_arguments["data_files"] for name in names}
    files = [path for path in (PROJECT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert files
    for path in files:
        relative = path.relative_to(PROJECT)
        assert (f"share/tttkd_ros/{relative.parent}", str(relative)) in shipped


def test_ament_index_finds_the_package(setup_arguments):
    targets = dict(setup_arguments["data_files"])
    assert targets["share/ament_index/resource_index/packages"] == ["resource/tttkd_ros"]
    assert targets["share/tttkd_ros"] == ["package.xml"]


def test_every_import_is_declared(setup_arguments):
    manifest = ElementTree.parse(PROJECT / "package.xml").getroot()
    declared = {normalised(element.text) for element in manifest.iter("exec_depend")}
    extras = setup_arguments["extras_require"]
    for requirement in [*setup_arguments["install_requires"], *(r for extra in extras.values() for r in extra)]:
        declared.add(normalised(requirement))
    providers = importlib.metadata.packages_distributions()
    for path in (path for folder in CODE for path in (PROJECT / folder).rglob("*.py")):
        for module in set(imports(path)) - sys.stdlib_module_names - {"tttkd_ros"}:
            known = {normalised(name) for name in [BROUGHT.get(module, module), *providers.get(module, ())]}
            assert known & declared, f"{path} imports {module}: neither setup.py nor package.xml asks for it"


def test_ros_modules_are_rosdep_keys_of_the_manifest():
    manifest = ElementTree.parse(PROJECT / "package.xml").getroot()
    declared = {element.text for element in manifest.iter("exec_depend")}
    for path in (path for folder in CODE for path in (PROJECT / folder).rglob("*.py")):
        modules = {BROUGHT.get(name, name) for name in imports(path) if ROS_MODULES.fullmatch(name)}
        assert modules <= declared, path


def test_core_imports_no_ros():
    code = PROJECT / "tttkd_ros"
    on_top = (code / "ros", code / "tools", code / "demo")
    for path in code.rglob("*.py"):
        if path.parent not in on_top:
            assert not [name for name in imports(path) if ROS_MODULES.fullmatch(name)], path


def test_command_starts_without_ros(tmp_path):
    without_ros = "import sys; sys.modules['rclpy'] = None; from tttkd_ros.cli import main; main()"
    assert "evaluate" in run(sys.executable, "-c", without_ros, "--help", cwd=tmp_path, PYTHONPATH=str(PROJECT))


def test_pip_puts_commands_on_the_path_and_files_in_the_prefix(source, tmp_path):
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    prefix = tmp_path / "prefix"
    pip = (sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation")
    # Without --ignore-installed, pip would first remove the package from the environment that runs this test.
    run(*pip, "--ignore-installed", "--prefix", prefix, ".", cwd=source)
    assert {"tttkd", "segment"} <= {path.name for path in (prefix / "bin").iterdir()}
    where = run(
        sys.executable, "-c", "from tttkd_ros.paths import shipped_path; print(shipped_path('config/segment.yaml'))",
        cwd=tmp_path, PYTHONPATH=libraries(prefix),
    )
    assert Path(where.strip()) == prefix / "share" / "tttkd_ros" / "config" / "segment.yaml"
    usage = run(prefix / "bin" / "tttkd", "--help", cwd=tmp_path, PYTHONPATH=libraries(prefix))
    assert "evaluate" in usage


def test_setup_py_installs_as_colcon_calls_it(source, tmp_path):
    """colcon itself needs a setuptools below 80, which torch excludes: this is the command that it runs."""
    prefix = tmp_path / "prefix"
    run(
        sys.executable, "setup.py", "install", "--prefix", prefix, "--single-version-externally-managed",
        "--record", tmp_path / "record", cwd=source,
    )
    for name in ("segment", "tttkd"):
        script = prefix / "lib" / "tttkd_ros" / name
        assert script.read_text().startswith("#!/usr/bin/env python3\n")
    shared = prefix / "share"
    assert (shared / "ament_index" / "resource_index" / "packages" / "tttkd_ros").is_file()
    assert (shared / "tttkd_ros" / "launch" / "segment.launch.py").is_file()
