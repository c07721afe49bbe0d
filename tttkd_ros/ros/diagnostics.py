"""The node's state as /diagnostics shows it: one status for the sweeps, one for the adaptation, one for
what the node listens to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus

from tttkd_ros.adaptation.worker import Counters
from tttkd_ros.diagnosis import kind_of
from tttkd_ros.pipeline import GUARD_PAUSE, STARVING
from tttkd_ros.ros.outputs import status
from tttkd_ros.ros.sensor_topic import Input
from tttkd_ros.ros.statistics import Statistics

LOST = ("sweeps dropped", "sweeps undecodable", "sweeps failed")
# Those that came in end as one of out or lost; those let pass came while the node was inactive.
SWEEPS = ("sweeps in", "sweeps out", *LOST, "sweeps let pass")


@dataclass(frozen=True)
class Snapshot:
    """A moment of the node.

    state: of its life. adaptation: "running", or why not. failed: whether it has stopped; restarting: whether it is
    not, after an adapter died. version: of the weights behind the last answer. stride: in force. images: received, by
    camera. problem: why almost no point of the last sweep was in range. failing: whether the last steps have all
    failed. trouble: why the last sweeps got no answer. inputs: the topics that the node listens to.
    """

    state: str
    adaptation: str = "not configured"
    failed: bool = False
    restarting: bool = False
    version: int = 0
    stride: int = 0
    jobs: Counters = field(default_factory=Counters)
    images: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    failing: bool = False
    trouble: str = ""
    inputs: Sequence[Input] = ()


class Diagnostics:
    """Turns running totals into statuses; a total that has grown since the last look is a warning.

    Adaptation that is held up is a warning for as long as it lasts. warn: logs it when it begins; info: when it ends.
    """

    def __init__(
        self,
        name: str,
        statistics: Statistics,
        warn: Callable[[str], object] = lambda text: None,
        info: Callable[[str], object] = lambda text: None,
    ):
        self._name = name
        self._statistics = statistics
        self._warn, self._info = warn, info
        self._before = statistics.counts()
        self._held_up = ""  # in short, what was logged last
        self._lost: Counter[str] = Counter()

    def statuses(self, now: Snapshot) -> list[DiagnosticStatus]:
        counts = self._statistics.counts()
        grown = counts - self._before
        self._before = counts
        statuses = [self._sweeps(now, counts, grown), self._adaptation(now, grown)]
        return [*statuses, self._inputs(now.inputs)] if now.inputs else statuses

    def _sweeps(self, now: Snapshot, counts: Counter, grown: Counter) -> DiagnosticStatus:
        lost = [f"{grown[what]} {what}" for what in LOST if grown[what]]
        idle = now.state == "active" and not grown["sweeps in"]
        problems = [f"hardly a label: {now.problem}"] if now.problem and not idle else []
        message = now.trouble or "; ".join(lost + problems) or ("active, but no sweep came" if idle else now.state)
        level = DiagnosticStatus.WARN if message != "active" else DiagnosticStatus.OK
        values = {"state": now.state, **{what: counts[what] for what in SWEEPS}, **self._statistics.milliseconds()}
        return status(f"{self._name}: sweeps", level, message, values)

    def _adaptation(self, now: Snapshot, grown: Counter) -> DiagnosticStatus:
        rejected = grown["rejected"] > 0
        held_up = self._hold_up(now)
        lost = now.failed or now.restarting or now.failing
        message = held_up or (f"{grown['rejected']} steps rejected" if rejected and not lost else now.adaptation)
        values = {
            "adaptation": now.adaptation,
            "paused": now.adaptation == "paused",
            "version": now.version,
            "stride": now.stride,
            "steps in the last minute": self._statistics.steps_in_last_minute(),
            "jobs": now.jobs.submitted,
            "replaced": now.jobs.replaced,
            "accepted": now.jobs.accepted,
            "rejected": now.jobs.rejected,
            "skipped": now.jobs.skipped,
            "failed": now.jobs.failed,
            "rolled back": now.jobs.rolled_back,
            "restarts": now.jobs.restarts,
            **self._statistics.rejections(),
            **{f"images of {camera}": number for camera, number in now.images.items()},
        }
        warned = held_up or rejected or now.restarting or now.failing
        level = DiagnosticStatus.WARN if warned else DiagnosticStatus.OK
        level = DiagnosticStatus.ERROR if now.failed else level
        return status(f"{self._name}: adaptation", level, message, values)

    def _hold_up(self, now: Snapshot) -> str:
        """What holds adaptation up, logged when it changes; empty if nothing does."""
        held_up = ""
        if now.adaptation.startswith(STARVING):
            held_up = f"{now.adaptation} ({self._statistics.steps_in_last_minute()} steps in the last minute)"
        elif now.adaptation.startswith(GUARD_PAUSE):
            held_up = now.adaptation
        elif now.adaptation == "running":
            held_up = self._statistics.refusal()
        short = kind_of(held_up.partition(":")[0])
        if short != self._held_up:
            if held_up:
                self._warn(f"adaptation: {held_up}")
            else:
                self._info(f"adaptation: {now.adaptation}")
            self._held_up = short
        return held_up

    def _inputs(self, inputs: Sequence[Input]) -> DiagnosticStatus:
        lost = Counter({topic.topic: topic.lost for topic in inputs})
        grown, self._lost = lost - self._lost, lost
        wrong = [f"{topic.topic}: {topic.problem}" for topic in inputs if topic.problem]
        wrong += [f"{topic}: {number} messages lost on the way" for topic, number in grown.items()]
        values = {f"{topic.topic} received": topic.received for topic in inputs}
        values |= {f"{topic.topic} lost": topic.lost for topic in inputs}
        level = DiagnosticStatus.WARN if wrong else DiagnosticStatus.OK
        return status(f"{self._name}: inputs", level, "; ".join(wrong) or "all topics bring messages", values)
