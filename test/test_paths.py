"""Shipped files are found beside the code, wherever both are."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from tttkd_ros import paths


def installed_copy(folder: Path):
    """paths.py as another installation of the package in `folder` would load it."""
    module = folder / "tttkd_ros" / "paths.py"
    module.parent.mkdir(parents=True)
    shutil.copy(paths.__file__, module)
    spec = importlib.util.spec_from_file_location("copied_paths", module)
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


def shared_folder(root: Path) -> Path:
    (root / "config").mkdir(parents=True)
    (root / "package.xml").touch()
    (root / "config" / "segment.yaml").touch()
    return root


def test_source_tree_serves_its_own_files():
    assert paths.shipped_path("package.xml") == Path(__file__).resolve().parents[1] / "package.xml"


@pytest.mark.parametrize("libraries", ["lib/python3.11/site-packages", "local/lib/python3.10/dist-packages", "."])
def test_installed_package_finds_its_prefix(tmp_path, libraries):
    shared = shared_folder(tmp_path / "share" / "tttkd_ros")
    found = installed_copy(tmp_path / libraries).shipped_path("config/segment.yaml")
    assert found == shared / "config" / "segment.yaml"


def test_source_tree_goes_before_an_older_copy_in_a_prefix(tmp_path):
    shared_folder(tmp_path / "share" / "tttkd_ros")
    source = shared_folder(tmp_path / "project")
    assert installed_copy(source).shipped_path("config/segment.yaml") == source / "config" / "segment.yaml"


def test_missing_file_is_named_with_the_folder_it_was_expected_in(tmp_path):
    source = shared_folder(tmp_path / "project")
    with pytest.raises(FileNotFoundError, match=f"models/none is not in {source}"):
        installed_copy(source).shipped_path("models/none")


def test_package_without_its_files_says_how_to_install_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="pip install"):
        installed_copy(tmp_path).shipped_path("config/segment.yaml")


def test_a_teacher_that_is_no_folder_may_be_a_hub_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.resolve_teacher("models/teacher") == str(paths.shipped_path("models/teacher"))
    assert paths.resolve_teacher("timm/samvit_base_patch16.sa1b") == "timm/samvit_base_patch16.sa1b"
