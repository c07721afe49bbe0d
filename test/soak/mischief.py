"""What is done to the node and its surroundings meanwhile, at random."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .processes import children
from .talk import Talk

STATE_FILE = "state.file"
VALID: dict[str, Callable[[np.random.Generator], bool | int | float]] = {
    "ttt.enabled": lambda random: bool(random.random() < 0.8),
    "ttt.stride": lambda random: int(random.integers(1, 8)),
    "ttt.learning_rate": lambda random: float(10 ** random.uniform(-5, 1)),
    "ttt.steps": lambda random: int(random.integers(1, 4)),
    "ttt.kd_points": lambda random: int(random.integers(16, 20_000)),
    "ttt.min_points": lambda random: int(random.integers(1, 100)),
    "ttt.guard": lambda random: bool(random.random() < 0.3),
    "ttt.min_alignment": lambda random: float(random.uniform(-2, 0.1)),
    "ttt.patience": lambda random: int(random.integers(1, 20)),
    "ttt.scene_steps": lambda random: int(random.integers(1, 50)),
    "ttt.source_anchoring": lambda random: float(random.uniform(0, 1)),
}
INVALID: tuple[dict[str, bool | int | float | str], ...] = (
    {"ttt.stride": 0}, {"ttt.stride": 2.5}, {"ttt.learning_rate": float("nan")}, {"ttt.learning_rate": 1e9},
    {"ttt.steps": -1}, {"ttt.enabled": "yes"}, {"ttt.stride": 2, "ttt.kd_points": 1}, {"ttt.source_anchoring": 1.5},
    {"ttt.scene_steps": 0}, {"model": "other.safetensors"}, {"queue": 1}, {"no.such.parameter": 1},
)  # fmt: skip


class Mischief:
    """sender: the process to stop and continue; node: its process id. folder: for the files of adapted weights.

    done: what was done how often. problems: answers that should have been others. transitions: when, from and to, the
    node changed its state; away: when it had no subscriptions.
    """

    def __init__(self, seed: int, talk: Talk, sender: int, node: int, folder: Path):
        self._random = np.random.default_rng((seed, 2))
        self._talk = talk
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
        self._expect("state.file", talk.set({STATE_FILE: str(self._saved)}).successful)

    def act(self) -> str:
        """Do something, after a while; what."""
        self._talk.wait(self._random.exponential(0.7))
        acts, weights = list(self._acts), np.array(list(self._acts.values()))
        act = acts[self._random.choice(len(acts), p=weights / weights.sum())]
        name = act.__name__.strip("_").replace("_", " ")
        self.done[name] += 1
        act()
        return name

    def renew(self) -> None:
        """Clean up and configure, for an adapter that may be killed three times again."""
        self._change("deactivate")
        began = time.monotonic()
        self._change("cleanup")
        refused = self._talk.trigger("reset")
        self._expect("reset of a node that is not configured is refused", not refused.success, refused.message)
        self._talk.wait(self._random.uniform(0, 1))
        self._change("configure")
        self.away.append((began, time.monotonic()))
        self._talk.wait(self._random.uniform(0, 0.5))
        self._change("activate")

    def _expect(self, what: str, true: bool, told: str = "") -> None:
        if not true:
            self.problems.append(f"{what}: {told}")

    def _change(self, transition: str) -> None:
        began = time.monotonic()
        self._expect(transition, self._talk.change(transition))
        self.transitions.append((began, time.monotonic()))

    def _set_valid(self) -> None:
        names = self._random.choice(list(VALID), self._random.integers(1, 4), replace=False)
        changes = {str(name): VALID[name](self._random) for name in names}
        result = self._talk.set(changes)
        self._enabled = changes.get("ttt.enabled", self._enabled)
        self._expect(f"setting {changes}", result.successful, result.reason)

    def _set_invalid(self) -> None:
        changes = INVALID[self._random.integers(len(INVALID))]
        self._expect(f"refusing {changes}", not self._talk.set(changes).successful)

    def _trigger(self, service: str, succeeds: bool = True) -> None:
        answer = self._talk.trigger(service)
        what = f"{service} {'succeeds' if succeeds else 'is refused'}"
        self._expect(what, answer.success == succeeds, answer.message)

    def _reset(self) -> None:
        self._trigger("reset")

    def _pause(self) -> None:
        self._trigger("pause")
        self._talk.wait(self._random.uniform(0, 2))
        self._trigger("resume", self._enabled)

    def _save(self) -> None:
        self._trigger("save")

    def _load(self) -> None:
        self._trigger("load", self._saved.exists())

    def _load_damaged(self) -> None:
        whole = bytearray(self._saved.read_bytes() if self._saved.exists() else b"")
        damage = self._random.integers(4)
        if damage == 0:
            whole = self._random.bytes(len(whole) or 100)
        elif damage == 1 and whole:  # the second half is nothing but weights
            whole[self._random.integers(len(whole) // 2, len(whole))] ^= 1 << int(self._random.integers(8))
        else:
            whole = whole[: self._random.integers(len(whole) + 1) // 2]
        self._damaged.write_bytes(whole)
        self._talk.set({STATE_FILE: str(self._damaged)})
        self._trigger("load", False)
        self._talk.set({STATE_FILE: str(self._saved)})

    def _stop_sender(self) -> None:
        os.kill(self._sender, signal.SIGSTOP)
        self._talk.wait(self._random.uniform(0.1, 2))
        os.kill(self._sender, signal.SIGCONT)

    def _cycle(self) -> None:
        self._change("deactivate")
        self._talk.wait(self._random.choice((0.0, self._random.uniform(0, 1))))
        self._change("activate")

    def _clean_up(self) -> None:
        self.renew()

    def _kill_adapter(self) -> None:
        for child in children(self._node):
            os.kill(child, signal.SIGKILL)
