"""A running node whose adaptation process hangs or dies: told on /diagnostics, made good, and no sweep the worse."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from tttkd_ros.messages.stamps import nanoseconds  # noqa: E402

PERIOD = 10**8  # nanoseconds between sweeps
STARTING_S = 180  # for a process to import all that it needs, on a machine with much else to do


class Drive:
    """Sweeps and images at a steady rate while something is waited for."""

    def __init__(self, talker, ros, pid: int):
        self.talker, self._ros, self._pid = talker, ros, pid
        self.stamps: list[int] = []
        self._due = 0.0

    def until(self, condition: Callable[[], object], seconds: float = STARTING_S) -> None:
        def look() -> object:
            if time.monotonic() >= self._due:
                self._due = time.monotonic() + PERIOD * 1e-9
                self.stamps.append((self.stamps or [10**12])[-1] + PERIOD)
                self.talker.infos.publish(self._ros.info())
                self.talker.images.publish(self._ros.image(self.stamps[-1]))
                self.talker.points.publish(self._ros.cloud(self.stamps[-1]))
            return condition()

        self.talker.until(look, seconds)

    def child(self) -> int | None:
        for task in Path(f"/proc/{self._pid}/task").iterdir():
            with suppress(FileNotFoundError):  # the thread has ended meanwhile
                if found := (task / "children").read_text().split():
                    return int(found[0])
        return None

    def version(self) -> int:
        """Of the newest accepted step."""
        return max((int(r["version"]) for r in self.talker.reports().values() if r["accepted"] == "true"), default=0)

    def told(self) -> DiagnosticStatus | None:
        messages = self.talker.heard["/diagnostics"]
        return next((s for s in messages[-1].status if s.name.endswith(": adaptation")), None) if messages else None

    def recovered(self, restarts: int) -> bool:
        told = self.told()
        values = self._ros.values(told)
        return told.level == DiagnosticStatus.OK and (values["adaptation"], values["restarts"]) == (
            "running", str(restarts)
        )

    def all_answered(self) -> bool:
        self.talker.until(lambda: len(self.talker.labelled()) >= len(self.stamps))
        return [nanoseconds(answer.header.stamp) for answer in self.talker.labelled()] == self.stamps


@pytest.fixture(scope="module")
def drive(start_node, models, ros, tmp_path_factory):
    """Of a node whose model's file is removed once it is up."""
    model = Path(shutil.copy(models.student, tmp_path_factory.mktemp("model")))
    process = start_node({
        "model": str(model), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager",
        "qos.reliability": "reliable", "qos.depth": 100, "queue": 1000, "ttt.stride": 1, "worker.patience": 5.0,
        "deadline": 60.0,
    }, "-r", "__node:=mortal")
    talker = ros.Talker("mortal")
    process.wait_for("active: waiting for sweeps")
    talker.until(talker.connected)
    drive = Drive(talker, ros, process.process.pid)
    drive.until(drive.version)
    model.unlink()
    yield drive
    talker.close()


# One node, whose process may die three times in a row: the order of these tests matters.


def test_a_process_that_hangs_is_killed_and_replaced_while_sweeps_go_on(drive):
    os.kill(drive.child(), signal.SIGSTOP)
    drive.until(lambda: drive.told().level == DiagnosticStatus.WARN and "starting" in drive.told().message)
    assert drive.told().message == "starting: the adaptation process gave no answer within 5 s and was killed"
    drive.until(lambda: drive.recovered(restarts=1))
    assert drive.all_answered()


def test_a_process_that_is_killed_is_replaced_and_its_heir_goes_on_from_what_was_published(drive):
    drive.until(lambda: drive.recovered(restarts=1))
    before = drive.version()
    os.kill(drive.child(), signal.SIGKILL)
    drive.until(lambda: drive.told().message == "starting: the adaptation process ended with signal SIGKILL")
    assert drive.told().level == DiagnosticStatus.WARN
    drive.until(lambda: drive.recovered(restarts=2))
    drive.until(lambda: drive.version() > before)
    assert drive.all_answered()


def test_processes_that_keep_dying_are_an_error_while_sweeps_go_on(drive):
    for _ in range(2):
        drive.until(drive.child)
        os.kill(victim := drive.child(), signal.SIGKILL)
        drive.until(lambda victim=victim: drive.child() != victim)
    drive.until(lambda: drive.told().level == DiagnosticStatus.ERROR)
    assert drive.told().message == (
        "stopped: the adaptation process ended with signal SIGKILL, after 3 restarts in a row; tries again in 10 min, "
        "or when it is resumed or reset"
    )
    before = len(drive.stamps)
    drive.until(lambda: len(drive.stamps) >= before + 10)
    assert drive.all_answered()


def test_resuming_starts_adaptation_again_from_what_was_published(drive):
    before = drive.version()
    answer = drive.talker.call(Trigger, "/mortal/resume")
    assert answer.success
    assert answer.message.startswith("adaptation starts again; it had stopped: the adaptation process ended with")
    drive.until(lambda: drive.recovered(restarts=4))
    drive.until(lambda: drive.version() > before)
    assert drive.talker.call(Trigger, "/mortal/resume").message == "adaptation is running"
