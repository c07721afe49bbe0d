"""What the command says where it cannot do as it is told."""

from __future__ import annotations

import pytest

from tttkd_ros.cli import main


def said(monkeypatch, capsys, *arguments) -> str:
    """On stderr, when the command ends as for a mistake."""
    monkeypatch.setattr("sys.argv", ["tttkd", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_place_below_a_file_is_told_with_the_remedy_and_no_traceback(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    told = said(monkeypatch, capsys, "simulate", tmp_path / "file" / "deep" / "drive", "--sweeps", 1)
    assert "Traceback" not in told
    assert told.startswith("tttkd: ") and "cannot be written (Not a directory): name another file" in told
