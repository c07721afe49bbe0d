"""One soak from start to end: the node, the sensors and the mischief, then a calm stretch, then the verdict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import verdict
from .clouds import FRAME, Sweep, cloud, points, sweeps
from .common import CAMERAS, SECOND
from .mischief import Mischief
from .models import Models, make_models
from .pictures import Shots, image, info
from .processes import Sample, sample
from .sender import Sensors
from .talk import Talk
from .verdict import Check, Entry
from .watch import Watch

DEADLINE_S = 0.2  # long enough for adaptation to have its share on a machine that may be busy
CALM_HZ = 10.0
CALM = 600  # sweeps within which adaptation has to be back: the governor gives it its share again step by step
START_S = 300.0  # that each of the processes may take to start, at the lowest priority, on a machine that may be busy
STEPS = 3  # that have to be accepted then


@dataclass(frozen=True)
class Result:
    """figures: what happened, for the report. samples: of the processes, all along."""

    checks: list[Check]
    figures: dict[str, dict[str, float]]
    samples: list[Sample]


def soak(
    count: int, rate: float, seed: int, usual: int, folder: Path, log: Path, tell: Callable[[int, str], object]
) -> Result:
    """Until the node has taken in `count` sweeps.

    usual: points of most sweeps, on average. folder: for scratch files. log: the node's. tell: called with the number
    of sweeps and the last mischief, time and again. Raises RuntimeError if the node ends, TimeoutError if it does not
    answer.
    """
    began = time.monotonic()
    watches = [Watch(sweeps(seed, round(SECOND / rate), usual))]
    samples: list[Sample] = []
    journal = folder / "journal"
    with ExitStack() as stack:
        node = stack.enter_context(_process(log, *_node(make_models(folder))))
        talk = Talk(lambda answer: watches[-1].check(answer))
        stack.callback(talk.close)

        def look() -> None:
            if node.poll() is not None:
                raise RuntimeError(f"the node ended with {node.returncode}; its log is {log}")
            adapts = talk.adaptation.get("adaptation", "").startswith(("running", "paused", "off"))
            samples.append(sample(node.pid, adapts))

        talk.node.create_timer(0.5, look)
        talk.until(lambda: talk.adaptation.get("adaptation") == "running", "the node does not adapt", START_S)
        sender_log = folder / "sender.log"
        sender = stack.enter_context(_process(sender_log, "soak.sender", str(seed), str(rate), str(journal),
                                             str(usual)))
        mischief = Mischief(seed, talk, sender.pid, node.pid, folder)
        while talk.count("in") < count:
            tell(talk.count("in"), mischief.act())
        seconds = time.monotonic() - began
        sender.terminate()
        talk.until(lambda: sender.poll() is not None, "the sender does not end")
        kinds = json.loads(sender_log.read_text())
        entries = [Entry(float(at), int(heard)) for _, at, heard in map(str.split, journal.read_text().splitlines())]
        _settle(talk)
        accepted = talk.steps["accepted"]
        tell(count, "calm")
        watches.append(Watch(iter(calm := [])))  # which grows as they are sent
        checks = _calm(talk, mischief, watches[-1], calm, entries)
        code = _interrupted(node)
    problems = [problem for watch in watches for problem in watch.problems]
    counts = {what: talk.count(what) for what in ("in", "out", "dropped", "undecodable", "failed", "let pass")}
    checks = [
        Check("the node lived through it, and ends when asked to", code == 0, f"exit code {code}"),
        Check("answers in order, none twice, of the points sent", not problems, _first(problems, counts["out"])),
        *verdict.accounting(counts, sum(watch.answers for watch in watches), entries, mischief.away),
        Check("undecodable are damaged ones only", counts["undecodable"] <= kinds["unanswerable"],
              f"{counts['undecodable']} of {kinds['unanswerable']} sent"),
        Check("services do as they say", not mischief.problems, _first(mischief.problems, sum(mischief.done.values()))),
        verdict.diagnostics(talk.diagnostics, mischief.transitions),
        verdict.log(log.read_text()),
        Check("adaptation took steps meanwhile", accepted > 0, f"{accepted} and {talk.steps['rejected']} rejected"),
        *checks,
        *verdict.flatness(samples),
    ]  # fmt: skip
    figures = {
        "sweeps": {"sent": len(entries), "rate, Hz": rate, **counts},
        "seconds": {"in all": seconds, "longest transition": max(b - a for a, b in mischief.transitions)},
        "damage": dict(sorted(kinds.items())),
        "mischief": dict(sorted(mischief.done.items())),
    }
    return Result(checks, figures, samples)


def _node(models: Models) -> Iterator[str]:
    yield from ("tttkd_ros.ros.node", "--ros-args", "-r", "points:=/lidar/points")
    parameters = {
        "model": str(models.student), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager",
        "device": "cpu", "cameras": list(CAMERAS), "motion.fixed_frame": "",
        "qos.depth": 1000, "deadline": DEADLINE_S, "ttt.stride": 2, "ttt.guard": False,
    }  # fmt: skip
    for name, value in parameters.items():
        yield from ("-p", f"{name}:={json.dumps(value)}")


@contextmanager
def _process(log: Path, module: str, *arguments: str) -> Iterator[subprocess.Popen]:
    """`python -m module`, killed at the end if it has not ended."""
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=output, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _interrupted(node: subprocess.Popen) -> int | None:
    """Its exit code; None if it does not end."""
    node.send_signal(signal.SIGINT)
    try:
        return node.wait(60)
    except subprocess.TimeoutExpired:
        return None


def _settle(talk: Talk) -> None:
    """Until two diagnostics say the same."""
    before = None
    while before != talk.sweeps:
        before, told = talk.sweeps, len(talk.diagnostics)
        talk.until(lambda told=told: len(talk.diagnostics) > told, "no diagnostics")


def _calm(talk: Talk, mischief: Mischief, watch: Watch, sent: list[Sweep], entries: list[Entry]) -> list[Check]:
    """Sweeps and images that are well, until adaptation is back. sent: where `watch` finds them."""
    mischief.renew()  # its adapter may have been killed too often
    well = {"ttt.enabled": True, "ttt.guard": False, "ttt.stride": 1, "ttt.steps": 1, "ttt.source_anchoring": 0.0,
            "ttt.learning_rate": 0.1, "ttt.kd_points": 20_000, "ttt.min_points": 1}  # fmt: skip
    talk.set(well)
    talk.trigger("reset")
    sensors = Sensors(talk.node)
    talk.until(lambda: sensors.heard, "nobody listens")
    told = len(talk.diagnostics)
    talk.until(lambda: len(talk.diagnostics) > told + 1, "no diagnostics")  # one may still be of the life before
    talk.until(lambda: talk.adaptation["adaptation"] == "running", "adaptation does not run", START_S)
    random = np.random.default_rng(0)
    while int(talk.adaptation["accepted"]) < STEPS and len(sent) < CALM:
        number, stamp = len(sent), 5000 * SECOND + round(len(sent) * SECOND / CALM_HZ)
        shown = points(random)
        message = cloud(shown, stamp, f"{FRAME}{number}")
        sent.append(Sweep(number, (), stamp, message, shown[:, :3], False))
        images = {camera: [image(random, stamp, camera)] for camera in CAMERAS}
        heard = sensors.send(sent[-1], Shots(images, {}, {camera: info(camera) for camera in CAMERAS}, ()))
        entries.append(Entry(time.monotonic(), heard))
        talk.wait(1 / CALM_HZ)
    _settle(talk)
    return [
        Check("calm sweeps are answered", watch.answers == len(sent), f"{watch.answers} of {len(sent)}"),
        Check("adaptation is back after a reset", int(talk.adaptation["accepted"]) >= STEPS,
              f"{talk.adaptation['accepted']} steps in {len(sent)} sweeps"),
    ]  # fmt: skip


def _first(problems: Sequence[str], of: int) -> str:
    return f"{of}" if not problems else f"{len(problems)} of {of} are not: {problems[0]}"
