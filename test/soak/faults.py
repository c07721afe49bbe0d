"""Random faults and service calls while the node runs."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .node_client import NodeClient
from .processes import children

STATE_FILE = "state.file"
VALID: dict[str, Callable[[np.random.Generator], bool | int | float]] = {
    "ttt.enabled": lambda generator: bool(generator.random() < 0.8),
    "ttt.stride": lambda generator: int(generator.integers(1, 8)),
    "ttt.learning_rate": lambda generator: float(10 ** generator.uniform(-5, 1)),
    "ttt.steps": lambda generator: int(generator.integers(1, 4)),
    "ttt.kd_points": lambda generator: int(generator.integers(16, 20_000)),
    "ttt.min_points": lambda generator: int(generator.integers(1, 100)),
    "ttt.guard": lambda generator: bool(generator.random() < 0.3),
    "ttt.min_alignment": lambda generator: float(generator.uniform(-2, 0.1)),
    "ttt.patience": lambda generator: int(generator.integers(1, 20)),
    "ttt.scene_steps": lambda generator: int(generator.integers(1, 50)),
    "ttt.source_anchoring": lambda generator: float(generator.uniform(0, 1)),
}
INVALID: tuple[dict[str, bool | int | float | str], ...] = (
    {"ttt.stride": 0}, {"ttt.stride": 2.5}, {"ttt.learning_rate": float("nan")}, {"ttt.learning_rate": 1e9},
    {"ttt.steps": -1}, {"ttt.enabled": "yes"}, {"ttt.stride": 2, "ttt.kd_points": 1}, {"ttt.source_anchoring": 1.5},
    {"ttt.scene_steps": 0}, {"model": "other.safetensors"}, {"queue": 1}, {"no.such.parameter": 1},
)  # fmt: skip


class FaultInjector:
    """Injects faults into the node and its surroundings.

    Args:
        seed: of the choice of faults.
        client: calls the node's services.
        sender: process id of the sensors, which are stopped and continued.
        node: process id of the node.
        folder: for files of adapted weights.

    Attributes:
        done: number of injections by fault.
        problems: unexpected responses of the node.
        transitions: start and end of each lifecycle transition, monotonic seconds.
        away: start and end of each period without subscriptions.
    """

    def __init__(self, seed: int, client: NodeClient, sender: int, node: int, folder: Path):
        self._generator = np.random.default_rng((seed, 2))
        self._client = client
        self._sender = sender
        self._node = node
        self._saved, self._damaged = folder / "adapted", folder / "damaged"
        self._acts = {
            self._set_valid: 25, self._set_invalid: 15, self._reset: 6, self._pause: 5, self._save: 8, self._load: 6,
            self._load_damaged: 6, self._stop_sender: 10, self._cycle: 10, self._clean_up: 1.5, self._kill_adapter: 1.5,
        }  # fmt: skip
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self.transitions: list[tuple[float, float]] = []
        self.away: list[tuple[float, float]] = []
        self._enabled = True  # ttt.enabled
        self._expect("state.file", client.set({STATE_FILE: str(self._saved)}).successful)

    def act(self) -> str:
        """Wait, inject a random fault and return its name."""
        self._client.wait(self._generator.exponential(0.7))
        acts, weights = list(self._acts), np.array(list(self._acts.values()))
        act = acts[self._generator.choice(len(acts), p=weights / weights.sum())]
        name = act.__name__.strip("_").replace("_", " ")
        self.done[name] += 1
        act()
        return name

    def renew(self) -> None:
        """Clean up and configure, which resets the count of killed adapters."""
        self._change("deactivate")
        began = time.monotonic()
        self._change("cleanup")
        refused = self._client.trigger("reset")
        self._expect("reset of a node that is not configured is refused", not refused.success, refused.message)
        self._client.wait(self._generator.uniform(0, 1))
        self._change("configure")
        self.away.append((began, time.monotonic()))
        self._client.wait(self._generator.uniform(0, 0.5))
        self._change("activate")

    def _expect(self, what: str, true: bool, detail: str = "") -> None:
        if not true:
            self.problems.append(f"{what}: {detail}")

    def _change(self, transition: str) -> None:
        began = time.monotonic()
        self._expect(transition, self._client.change(transition))
        self.transitions.append((began, time.monotonic()))

    def _set_valid(self) -> None:
        names = self._generator.choice(list(VALID), self._generator.integers(1, 4), replace=False)
        changes = {str(name): VALID[name](self._generator) for name in names}
        result = self._client.set(changes)
        self._enabled = changes.get("ttt.enabled", self._enabled)
        self._expect(f"setting {changes}", result.successful, result.reason)

    def _set_invalid(self) -> None:
        changes = INVALID[self._generator.integers(len(INVALID))]
        self._expect(f"refusing {changes}", not self._client.set(changes).successful)

    def _trigger(self, service: str, succeeds: bool = True) -> None:
        answer = self._client.trigger(service)
        what = f"{service} {'succeeds' if succeeds else 'is refused'}"
        self._expect(what, answer.success == succeeds, answer.message)

    def _reset(self) -> None:
        self._trigger("reset")

    def _pause(self) -> None:
        self._trigger("pause")
        self._client.wait(self._generator.uniform(0, 2))
        self._trigger("resume", self._enabled)

    def _save(self) -> None:
        self._trigger("save")

    def _load(self) -> None:
        self._trigger("load", self._saved.exists())

    def _load_damaged(self) -> None:
        whole = bytearray(self._saved.read_bytes() if self._saved.exists() else b"")
        damage = self._generator.integers(4)
        if damage == 0:
            whole = self._generator.bytes(len(whole) or 100)
        elif damage == 1 and whole:  # the second half is nothing but weights
            whole[self._generator.integers(len(whole) // 2, len(whole))] ^= 1 << int(self._generator.integers(8))
        else:
            whole = whole[: self._generator.integers(len(whole) + 1) // 2]
        self._damaged.write_bytes(whole)
        self._client.set({STATE_FILE: str(self._damaged)})
        self._trigger("load", False)
        self._client.set({STATE_FILE: str(self._saved)})

    def _stop_sender(self) -> None:
        os.kill(self._sender, signal.SIGSTOP)
        self._client.wait(self._generator.uniform(0.1, 2))
        os.kill(self._sender, signal.SIGCONT)

    def _cycle(self) -> None:
        self._change("deactivate")
        self._client.wait(self._generator.choice((0.0, self._generator.uniform(0, 1))))
        self._change("activate")

    def _clean_up(self) -> None:
        self.renew()

    def _kill_adapter(self) -> None:
        for child in children(self._node):
            os.kill(child, signal.SIGKILL)
