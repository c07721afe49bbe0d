"""Error messages of the command."""

from __future__ import annotations

import pytest

from tttkd_ros.cli import main


def run_failing(monkeypatch, capsys, *arguments) -> str:
    """Run the command, which must fail with exit code 1, and return its stderr."""
    monkeypatch.setattr("sys.argv", ["tttkd", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_a_path_below_a_file_is_an_error_without_traceback(monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    message = run_failing(monkeypatch, capsys, "simulate", tmp_path / "file" / "deep" / "drive", "--sweeps", 1)
    assert "Traceback" not in message
    assert message.startswith("tttkd: ") and "cannot be written (Not a directory): name another file" in message
