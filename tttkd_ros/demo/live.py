"""One real-time run: a node, a player and a recorder, each in its own process, connected by DDS."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tttkd_ros.adaptation.worker import OVER, READY
from tttkd_ros.demo.processes import Child
from tttkd_ros.demo.scores import ADAPTATION, LABELLED, POINTS
from tttkd_ros.ros.node import ACTIVE

_START_TIMEOUT_S = 600.0  # until the node is active and can adapt; it may have to build an engine first
_DOMAINS = range(10, 100)  # ROS domain ids whose ports are free on every platform


class LiveRun(NamedTuple):
    """Files of one run. sent: when each message was sent. log: of the node."""

    recording: Path
    sent: Path
    log: Path

    def sent_times(self) -> list[int]:
        """Wall-clock nanoseconds at which each sweep was handed to DDS, in the bag's order."""
        try:
            with self.sent.open(newline="", encoding="utf-8") as file:
                return [int(row["sent"]) for row in csv.DictReader(file) if row["topic"] == POINTS]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{self.sent} lacks the times of sending ({error!r}): run the demo again") from error


def run_live(
    bag: Path, sweeps: int, out: Path, *, rig: Path, cameras: Sequence[str], parameters: dict[str, object],
    seconds: float,
) -> LiveRun:
    """Play a bag of `sweeps` sweeps and `seconds` to a new node and record its predictions and logs in `out`.

    rig, cameras, parameters: of the node. Raises ChildError if a process fails, with the end of its log.
    """
    out.mkdir(parents=True)
    domain = _DOMAINS[(os.getpid() + time.monotonic_ns() // 1000) % len(_DOMAINS)]
    run = LiveRun(out / "recording", out / "sent.csv", out / "node.log")
    arguments = ["--ros-args", "-r", f"points:={POINTS}"]
    for name, value in ({"cameras": list(cameras), "rig": str(rig)} | parameters).items():
        arguments += ["-p", f"{name}:={json.dumps(value)}"]
    with ExitStack() as stack:
        node = stack.enter_context(Child("tttkd_ros.ros.node", arguments, run.log, domain=domain, threads=None))
        # The node predicts from the first sweep on, but all runs have to start with adaptation ready.
        node.wait_for(lambda: _can_adapt(node), f"{ACTIVE} and {READY}", _START_TIMEOUT_S)
        recorder = stack.enter_context(Child(
            "tttkd_ros.tools.recorder",
            [run.recording, LABELLED, ADAPTATION, "--count", sweeps, "--linger", 1, "--idle", 10],
            out / "recorder.log", domain=domain,
        ))
        recorder.wait_for(lambda: recorder.output().count("recording /") == 2, "recording", 30)
        player = stack.enter_context(Child(
            "tttkd_ros.tools.player", [bag, "--wait-for-subscribers", "--sent-file", run.sent],
            out / "player.log", domain=domain,
        ))
        # Wait on the node, so that its log is shown if it ends early.
        node.wait_for(lambda: not player.running, "done with the bag played to it", seconds + 90)
        player.require_success()
        node.wait_for(lambda: not recorder.running, "done with its predictions", 60)
        recorder.require_success()
        if (code := node.end()) != 0:
            raise node.error(f"did not shut down cleanly: code {code}")
    return run


def _can_adapt(node: Child) -> bool:
    output = node.output()
    if OVER in output:
        raise node.error("cannot adapt")
    return ACTIVE in output and READY in output
