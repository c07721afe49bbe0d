"""A short soak; `make soak` runs the full one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("rclpy")


@pytest.mark.timeout(1200)  # on a busy machine
@pytest.mark.parametrize("options", [["--sweeps", "1500"], ["--sweeps", "600", "--injection"]], ids=["", "injection"])
def test_the_node_survives_faults_of_every_kind(tmp_path, options):
    command = [sys.executable, "-m", "soak", *options, "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (tmp_path / "output").open("w") as output:
        run = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        code = run.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # the node and the sender too, after a timeout
    assert code == 0, (tmp_path / "output").read_text()
    assert json.loads((tmp_path / "soak.json").read_text())["figures"]["sweeps"]["in"] >= int(options[1])
