"""Three minutes of a bad day; `make soak` is the whole of it."""

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


@pytest.mark.timeout(1200)  # on a machine with other things to do
def test_the_node_lives_through_a_bad_day(tmp_path):
    command = [sys.executable, "-m", "soak", "--sweeps", "2500", "--out", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    with (tmp_path / "said").open("w") as said:
        run = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
    try:
        code = run.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)  # the node and the sender, too, if time is up
    assert code == 0, (tmp_path / "said").read_text()
    assert json.loads((tmp_path / "soak.json").read_text())["figures"]["sweeps"]["in"] >= 2500
