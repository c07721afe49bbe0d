"""The checks of a soak."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from .processes import Sample

MAX_GROWTH = 0.05  # of memory, from the first quarter after the warm-up to the last
WARM_UP = 0.25  # share of the samples
MAX_SILENCE_S = 5.0  # between two diagnostics, which are sent once a second, on a busy machine
MAX_TRANSPORT_S = 2.0  # for a sweep from the sender to the node


@dataclass(frozen=True)
class Check:
    what: str
    passed: bool
    detail: str


class Entry(NamedTuple):
    """A sweep in the sender's journal: the time it was sent (monotonic seconds) and the number of subscribers."""

    at: float
    heard: int


def accounting(counts: dict[str, int], answers: int, entries: Sequence[Entry], away: Iterable[Sequence[float]]):
    """Yield checks that every sweep is counted once.

    Args:
        counts: the node's counters of sweeps.
        answers: number received.
        entries: the sender's journal.
        away: start and end of each period without subscriptions.
    """
    lost = {what: counts[what] for what in ("dropped", "undecodable", "failed")}
    yield Check(
        "in = out + dropped + undecodable + failed", counts["in"] == counts["out"] + sum(lost.values()),
        f"{counts['in']} = {counts['out']} + " + " + ".join(map(str, lost.values())),
    )
    yield Check("none failed", counts["failed"] == 0, str(counts["failed"]))
    yield Check("every answer arrives", answers == counts["out"], f"{answers} of {counts['out']}")
    sent = [entry.at for entry in entries if entry.heard]
    gone = sum(any(first - MAX_TRANSPORT_S <= at <= last for first, last in away) for at in sent)
    missing = len(sent) - counts["in"] - counts["let pass"]
    yield Check(
        "sent = in + let pass + lost with the subscription", 0 <= missing <= gone,
        f"{len(sent)} = {counts['in']} + {counts['let pass']} + {missing} (of {gone} sent around a clean-up)",
    )


def diagnostics(times: Sequence[float], transitions: Iterable[Sequence[float]]) -> Check:
    """Check that only transitions interrupt the diagnostics."""
    quiet = [
        last - first
        for first, last in itertools.pairwise(times)
        if not any(first < end and begin < last for begin, end in transitions)
    ]
    longest = max(b - a for a, b in itertools.pairwise(times))
    return Check(
        "diagnostics every second", max(quiet) < MAX_SILENCE_S,
        f"at most {max(quiet):.1f} s apart, {longest:.1f} s around transitions",
    )


def flatness(samples: Sequence[Sample]) -> list[Check]:
    """Compare the medians of the first and the last quarter after the warm-up."""
    warm = samples[int(WARM_UP * len(samples)) :]
    whole = [sample for sample in warm if sample.child_mib is not None]
    return [
        _flat("memory, with adaptation", " MiB", [sample.node_mib + sample.child_mib for sample in whole]),
        _flat("memory of the node", " MiB", [sample.node_mib for sample in warm]),
        _flat("threads", "", [sample.threads for sample in warm], 1),
        _flat("open files", "", [sample.files for sample in warm], 2),
    ]


def _flat(what: str, unit: str, figures: Sequence[float], slack: float = 0.0) -> Check:
    quarter = len(figures) // 4
    first, last = median(figures[:quarter]), median(figures[-quarter:])
    seen = f"{first:.0f}, then {last:.0f}{unit} ({last / first - 1:+.1%})"
    return Check(f"{what}: flat", last <= first * (1 + MAX_GROWTH) + slack, seen)


def log(text: str) -> Check:
    """Check that the log has warnings only, no unexpected exception."""
    wrong = [line for line in text.splitlines() if "Traceback" in line or "[FATAL]" in line]
    return Check("no exception in the log", not wrong, f"{len(text.splitlines())} lines" if not wrong else wrong[0])
