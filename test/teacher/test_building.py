"""A build in another process: success, failure, progress, and abortion."""

import logging
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from tttkd_ros.teacher import building
from tttkd_ros.teacher.building import BuildStopped, build_apart

TIMEOUT_S = 60


def has_ended(pid):
    """Wait for the end of a process; a zombie has ended."""
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_another_process_builds(tmp_path):
    build_apart(partial(os.system, f"echo $PPID > {tmp_path}/pid"), threading.Event())
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_a_teacher_can_be_sent_to_the_other_process(tmp_path, features):
    build_apart(partial(torch.save, features, tmp_path / "received"), threading.Event())
    received = torch.load(tmp_path / "received", weights_only=False)
    pixels = torch.randn(1, 3, 70, 140)
    assert torch.equal(received(pixels), features(pixels))


def test_a_failed_build_leaves_its_error_on_stderr(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="exit status 1"):
        build_apart(partial(os.mkdir, tmp_path), threading.Event())
    assert "FileExistsError" in capfd.readouterr().err


def test_a_crashed_build_does_not_end_this_process():
    with pytest.raises(RuntimeError, match="exit status -11"):
        build_apart(partial(os.system, "kill -SEGV $PPID"), threading.Event())


def test_a_long_build_logs_its_progress(monkeypatch, caplog):
    monkeypatch.setattr(building, "PROGRESS_INTERVAL_S", 0.2)
    with caplog.at_level(logging.INFO):
        build_apart(partial(time.sleep, 0.6), threading.Event())
    assert sum(message.startswith("still building: ") for message in caplog.messages) >= 2


def test_a_stopped_build_ends(tmp_path):
    stop, stopped = threading.Event(), []

    def build():
        with pytest.raises(BuildStopped):
            build_apart(partial(os.system, f"echo $PPID > {tmp_path}/pid; exec sleep 1"), stop)
        stopped.append(True)

    def pid():
        return (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()

    thread = threading.Thread(target=build, daemon=True)
    thread.start()
    deadline = time.monotonic() + TIMEOUT_S
    while not pid():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stop.set()
    thread.join(TIMEOUT_S)
    assert stopped
    assert has_ended(int(pid()))


def test_a_build_ends_with_its_parent(tmp_path):
    code = (
        "import os, threading, time, functools, pathlib\n"
        "from tttkd_ros.teacher.building import build_apart\n"
        f"pid = pathlib.Path({str(tmp_path / 'pid')!r})\n"
        "build = functools.partial(os.system, f'echo $PPID > {pid}; exec sleep 5')\n"
        "threading.Thread(target=build_apart, args=(build, threading.Event()), daemon=True).start()\n"
        "while not (pid.exists() and pid.read_text()): time.sleep(0.02)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=TIMEOUT_S)
    assert has_ended(int((tmp_path / "pid").read_text()))
