"""One soak: run the node, the sensors and the faults, then sensors without faults, then check the results."""

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
from .answer_check import AnswerCheck
from .clouds import FRAME, Sweep, cloud, points, sweeps
from .common import CAMERAS, SECOND
from .faults import FaultInjector
from .images import CameraMessages, image, info
from .models import Models, make_models
from .node_client import NodeClient
from .processes import Sample, sample
from .sender import Sensors
from .verdict import Check, Entry

DEADLINE_S = 0.2  # long enough for adaptation to run on a busy machine
CALM_HZ = 10.0
MAX_CALM_SWEEPS = 600  # until adaptation has to run again; the governor resumes it gradually
START_S = 300.0  # for a process to start, at the lowest priority, on a busy machine
MIN_STEPS = 3  # accepted during the calm sweeps


@dataclass(frozen=True)
class Result:
    """The outcome of a soak."""

    checks: list[Check]
    figures: dict[str, dict[str, float]]  # for the report
    samples: list[Sample]  # of the processes, over the whole run


def soak(
    count: int, rate: float, seed: int, mean_points: int, folder: Path, log: Path,
    report: Callable[[int, str], object], *, injection: bool = False,
) -> Result:
    """Run until the node has received `count` sweeps, then check everything.

    Args:
        count: sweeps.
        rate: Hz.
        seed: of all random draws.
        mean_points: in most sweeps.
        folder: for scratch files.
        log: file for the node's log.
        report: called with the number of sweeps and the last fault.
        injection: the student takes image features.

    Raises:
        RuntimeError: the node ended.
        TimeoutError: the node does not answer.
    """
    began = time.monotonic()
    checkers = [AnswerCheck(sweeps(seed, round(SECOND / rate), mean_points))]
    samples: list[Sample] = []
    journal = folder / "journal"
    with ExitStack() as stack:
        node = stack.enter_context(_process(log, *_node(make_models(folder, injection=injection))))
        client = NodeClient(lambda answer: checkers[-1].check(answer))
        stack.callback(client.close)

        def sample_node() -> None:
            if node.poll() is not None:
                raise RuntimeError(f"the node ended with {node.returncode}; its log is {log}")
            adapts = client.adaptation.get("adaptation", "").startswith(("running", "paused", "off"))
            samples.append(sample(node.pid, adapts))

        client.node.create_timer(0.5, sample_node)
        client.until(lambda: client.adaptation.get("adaptation") == "running", "the node does not adapt", START_S)
        sender_log = folder / "sender.log"
        sender = stack.enter_context(_process(sender_log, "soak.sender", str(seed), str(rate), str(journal),
                                             str(mean_points)))
        injector = FaultInjector(seed, client, sender.pid, node.pid, folder)
        while client.count("in") < count:
            report(client.count("in"), injector.act())
        seconds = time.monotonic() - began
        sender.terminate()
        client.until(lambda: sender.poll() is not None, "the sender does not end")
        kinds = json.loads(sender_log.read_text())
        entries = [Entry(float(at), int(heard)) for _, at, heard in map(str.split, journal.read_text().splitlines())]
        _settle(client)
        accepted = client.steps["accepted"]
        report(count, "calm")
        checkers.append(AnswerCheck(iter(calm := [])))  # the list grows during the calm sweeps
        checks = _calm(client, injector, checkers[-1], calm, entries)
        code = _interrupted(node)
    problems = [problem for checker in checkers for problem in checker.problems]
    counts = {what: client.count(what) for what in ("in", "out", "dropped", "undecodable", "failed", "let pass")}
    checks = [
        Check("the node lived through it, and ends when asked to", code == 0, f"exit code {code}"),
        Check("answers in order, none twice, of the points sent", not problems, _first(problems, counts["out"])),
        *verdict.accounting(counts, sum(checker.answers for checker in checkers), entries, injector.away),
        Check("undecodable are damaged ones only", counts["undecodable"] <= kinds["unanswerable"],
              f"{counts['undecodable']} of {kinds['unanswerable']} sent"),
        Check("services do as they say", not injector.problems, _first(injector.problems, sum(injector.done.values()))),
        verdict.diagnostics(client.diagnostics, injector.transitions),
        verdict.log(log.read_text()),
        Check("adaptation took steps meanwhile", accepted > 0, f"{accepted} and {client.steps['rejected']} rejected"),
        *checks,
        *verdict.flatness(samples),
    ]  # fmt: skip
    figures = {
        "sweeps": {"sent": len(entries), "rate, Hz": rate, **counts},
        "seconds": {"in all": seconds, "longest transition": max(b - a for a, b in injector.transitions)},
        "damage": dict(sorted(kinds.items())),
        "faults": dict(sorted(injector.done.items())),
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
    """Run `python -m module`, and kill it at the end."""
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
    """Interrupt the node and return its exit code, None if it does not end."""
    node.send_signal(signal.SIGINT)
    try:
        return node.wait(60)
    except subprocess.TimeoutExpired:
        return None


def _settle(client: NodeClient) -> None:
    """Wait until two diagnostics in a row are equal."""
    before = None
    while before != client.sweeps:
        before, received = client.sweeps, len(client.diagnostics)
        client.until(lambda received=received: len(client.diagnostics) > received, "no diagnostics")


def _calm(
    client: NodeClient, injector: FaultInjector, checker: AnswerCheck, sent: list[Sweep], entries: list[Entry]
) -> list[Check]:
    """Send valid sweeps and images until adaptation runs again. `checker` reads them from `sent`."""
    injector.renew()  # the adapter may have been killed too often
    valid = {"ttt.enabled": True, "ttt.guard": False, "ttt.stride": 1, "ttt.steps": 1, "ttt.source_anchoring": 0.0,
            "ttt.learning_rate": 0.1, "ttt.kd_points": 20_000, "ttt.min_points": 1}  # fmt: skip
    client.set(valid)
    client.trigger("reset")
    sensors = Sensors(client.node)
    client.until(lambda: sensors.heard, "nobody listens")
    received = len(client.diagnostics)
    client.until(lambda: len(client.diagnostics) > received + 1, "no diagnostics")  # the next may be an old one
    client.until(lambda: client.adaptation["adaptation"] == "running", "adaptation does not run", START_S)
    generator = np.random.default_rng(0)
    while int(client.adaptation["accepted"]) < MIN_STEPS and len(sent) < MAX_CALM_SWEEPS:
        number, stamp = len(sent), 5000 * SECOND + round(len(sent) * SECOND / CALM_HZ)
        cloud_points = points(generator)
        message = cloud(cloud_points, stamp, f"{FRAME}{number}")
        sent.append(Sweep(number, (), stamp, message, cloud_points[:, :3], False))
        images = {camera: [image(generator, stamp, camera)] for camera in CAMERAS}
        heard = sensors.send(sent[-1], CameraMessages(images, {}, {camera: info(camera) for camera in CAMERAS}, ()))
        entries.append(Entry(time.monotonic(), heard))
        client.wait(1 / CALM_HZ)
    _settle(client)
    return [
        Check("calm sweeps are answered", checker.answers == len(sent), f"{checker.answers} of {len(sent)}"),
        Check("adaptation is back after a reset", int(client.adaptation["accepted"]) >= MIN_STEPS,
              f"{client.adaptation['accepted']} steps in {len(sent)} sweeps"),
    ]  # fmt: skip


def _first(problems: Sequence[str], of: int) -> str:
    return f"{of}" if not problems else f"{len(problems)} of {of} are not: {problems[0]}"
