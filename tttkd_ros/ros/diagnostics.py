"""The node's state on /diagnostics: a status each for the sweeps, the adaptation and the node's input topics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from tttkd_ros.diagnosis import kind_of
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.topic_health import TopicHealth
from tttkd_ros.pipeline import GUARD_PAUSE, STARVING, AdaptationStatus
from tttkd_ros.ros import outputs
from tttkd_ros.ros.image_injector import Injected

LOST = ("sweeps dropped", "sweeps undecodable", "sweeps failed")
# Each sweep in ends as one of out or lost; those let pass came while the node was inactive.
SWEEPS = ("sweeps in", "sweeps out", *LOST, "sweeps let pass")


@dataclass(frozen=True)
class Snapshot:
    """The node's state at one moment."""

    state: str  # of its life cycle
    adaptation: AdaptationStatus = AdaptationStatus()
    version: int = 0  # of the weights that labelled the last sweep
    images: Mapping[str, int] = field(default_factory=dict)  # received, by camera
    problem: str = ""  # why almost no point of the last sweep was in range
    trouble: str = ""  # why the last sweeps got no labels
    slow: str = ""  # that predictions alone come near the deadline
    inputs: Sequence[TopicHealth] = ()  # the topics that the node subscribes to
    injected: Injected | None = None  # what the last labels rest on; None for a student without injection


class Diagnostics:
    """Turns running totals into statuses. A total that has grown since the last call is a warning.

    `warn` logs that adaptation is blocked, when that begins, and `info` when it ends.
    """

    def __init__(
        self, name: str, statistics: Statistics, warn: Callable[[str], object], info: Callable[[str], object]
    ):
        self._name = name
        self._statistics = statistics
        self._warn, self._info = warn, info
        self._counts = statistics.counts()
        self._logged_block = ""
        self._lost: Counter[str] = Counter()

    def statuses(self, now: Snapshot) -> list[DiagnosticStatus]:
        counts = self._statistics.counts()
        new, self._counts = counts - self._counts, counts
        statuses = [self._sweeps(now, new), self._adaptation(now, new["rejected"])]
        return [*statuses, self._inputs(now.inputs)] if now.inputs else statuses

    def _sweeps(self, now: Snapshot, new: Counter) -> DiagnosticStatus:
        idle = now.state == "active" and not new["sweeps in"]
        problems = [f"{new[event]} {event}" for event in LOST if new[event]]
        if now.problem and not idle:
            problems.append(f"almost no labels: {now.problem}")
        if now.slow and not idle:
            problems.append(now.slow)
        if now.injected and now.injected.missing and not idle:
            problems.append(f"labels without some images: {now.injected.missing}")
        message = now.trouble or "; ".join(problems) or ("active, but no sweep came" if idle else now.state)
        values = {"state": now.state, **{event: self._counts[event] for event in SWEEPS}, **self._statistics.times_ms()}
        if now.injected:
            values |= {"images injected": f"{now.injected.images} of {now.injected.cameras}",
                       "points seen": f"{now.injected.seen:.0%}",
                       "waited for images ms": round(1e3 * now.injected.waited_s, 1)}
        return self._status("sweeps", _warn_if(message != "active"), message, values)

    def _adaptation(self, now: Snapshot, rejected: int) -> DiagnosticStatus:
        status, block = now.adaptation, self._block(now.adaptation)
        jobs, broken = status.counters, status.stopped or status.restarting or status.failing
        message = block or (f"{rejected} steps rejected" if rejected and not broken else status.text)
        values = {
            "adaptation": status.text,
            "paused": status.text == "paused",
            "version": now.version,
            "stride": status.stride,
            "steps in the last minute": self._statistics.steps_in_last_minute(),
            "jobs": jobs.submitted,
            "replaced": jobs.replaced,
            "accepted": jobs.accepted,
            "rejected": jobs.rejected,
            "skipped": jobs.skipped,
            "failed": jobs.failed,
            "restarts": jobs.restarts,
            **self._statistics.rejections(),
            **{f"images of {camera}": number for camera, number in now.images.items()},
        }
        level = DiagnosticStatus.ERROR if status.stopped else _warn_if(block or rejected or broken)
        return self._status("adaptation", level, message, values)

    def _block(self, status: AdaptationStatus) -> str:
        """What blocks adaptation, logged when it changes; empty if nothing does."""
        block = ""
        if status.text.startswith(STARVING):
            block = f"{status.text} ({self._statistics.steps_in_last_minute()} steps in the last minute)"
        elif status.text.startswith(GUARD_PAUSE):
            block = status.text
        elif status.text == "running":
            block = self._statistics.refusals()
        kind = kind_of(block.partition(":")[0])
        if kind != self._logged_block:
            self._logged_block = kind
            if block:
                self._warn(f"adaptation: {block}")
            else:
                self._info(f"adaptation: {status.text}")
        return block

    def _inputs(self, inputs: Sequence[TopicHealth]) -> DiagnosticStatus:
        lost = Counter({topic.topic: topic.lost for topic in inputs})
        newly_lost, self._lost = lost - self._lost, lost
        problems = [f"{topic.topic}: {topic.problem}" for topic in inputs if topic.problem]
        problems += [f"{topic}: {number} messages lost on the way" for topic, number in newly_lost.items()]
        values = {f"{topic.topic} received": topic.received for topic in inputs}
        values |= {f"{topic.topic} lost": topic.lost for topic in inputs}
        return self._status("inputs", _warn_if(problems), "; ".join(problems) or "all topics bring messages", values)

    def _status(self, part: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
        return outputs.status(f"{self._name}: {part}", level, message, values)


def _warn_if(problem: object) -> bytes:
    return DiagnosticStatus.WARN if problem else DiagnosticStatus.OK
