"""A build in a process of its own: what comes of one that is done, fails, takes long, or is not wanted any more."""

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

from tttkd_ros.teacher.building import BuildStopped, build_apart

PATIENCE = 60  # seconds until a test that hangs fails


def gone(pid):
    """Whether the process ends; one that only its parent has not asked about yet has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_what_was_built_is_there_when_it_returns(tmp_path):
    build_apart(partial(os.mkdir, tmp_path / "engine"))
    assert (tmp_path / "engine").is_dir()


def test_a_teacher_reaches_the_other_process_whole(tmp_path, features):
    build_apart(partial(torch.save, features, tmp_path / "arrived"))
    arrived = torch.load(tmp_path / "arrived", weights_only=False)
    pixels = torch.randn(1, 3, 70, 140)
    assert torch.equal(arrived(pixels), features(pixels))


def test_it_is_built_by_another_process(tmp_path):
    build_apart(partial(os.system, f"echo $PPID > {tmp_path}/pid"))
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_a_build_that_fails_says_why_and_how_it_ended(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="exit status 1"):
        build_apart(partial(os.mkdir, tmp_path))
    assert "FileExistsError" in capfd.readouterr().err


def test_a_build_that_crashes_ends_alone():
    with pytest.raises(RuntimeError, match="exit status -11"):
        build_apart(partial(os.system, "kill -SEGV $PPID"))


def test_a_long_build_tells_how_long_it_has_taken(caplog):
    with caplog.at_level(logging.INFO):
        build_apart(partial(time.sleep, 0.6), progress_s=0.2)
    assert sum(message.startswith("still building: ") for message in caplog.messages) >= 2


def test_a_build_that_nobody_waits_for_is_ended(tmp_path):
    stop, ended = threading.Event(), []

    def build():
        with pytest.raises(BuildStopped):
            build_apart(partial(os.system, f"echo $PPID > {tmp_path}/pid; exec sleep 1"), stop)
        ended.append(True)

    def pid():
        return (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()

    waiting = threading.Thread(target=build, daemon=True)
    waiting.start()
    deadline = time.monotonic() + PATIENCE
    while not pid():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stop.set()
    waiting.join(PATIENCE)
    assert ended
    assert gone(int(pid()))


def test_a_build_ends_with_the_process_that_wants_it(tmp_path):
    code = (
        "import os, threading, time, functools, pathlib\n"
        "from tttkd_ros.teacher.building import build_apart\n"
        f"pid = pathlib.Path({str(tmp_path / 'pid')!r})\n"
        "build = functools.partial(os.system, f'echo $PPID > {pid}; exec sleep 5')\n"
        "threading.Thread(target=build_apart, args=(build,), daemon=True).start()\n"
        "while not (pid.exists() and pid.read_text()): time.sleep(0.02)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], timeout=PATIENCE)
    assert gone(int((tmp_path / "pid").read_text()))
