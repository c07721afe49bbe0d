"""The node's state as /diagnostics shows it: one status for the sweeps, one for the adaptation."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus

from tttkd_ros.adaptation.worker import Counters
from tttkd_ros.ros.outputs import status
from tttkd_ros.ros.statistics import Statistics

SWEEPS = ("sweeps in", "sweeps out", "sweeps dropped", "sweeps undecodable", "sweeps failed")
LOST = SWEEPS[2:]


class Diagnostics:
    """Turns running totals into statuses; a total that has grown since the last look is a warning."""

    def __init__(self, name: str, statistics: Statistics):
        self._name = name
        self._statistics = statistics
        self._before = statistics.counts()

    def statuses(
        self, state: str, adaptation: str, version: int, jobs: Counters, images: dict[str, int]
    ) -> list[DiagnosticStatus]:
        """state: of the node's life. adaptation: "running", or why not. version: of the weights behind the last answer.

        images: received, by camera.
        """
        counts = self._statistics.counts()
        grown = counts - self._before
        self._before = counts
        return [
            self._sweeps(state, counts, grown),
            self._adaptation(adaptation, version, jobs, images, grown),
        ]

    def _sweeps(self, state, counts, grown) -> DiagnosticStatus:
        lost = [f"{grown[what]} {what}" for what in LOST if grown[what]]
        message = "; ".join(lost) or (state if grown["sweeps in"] or state != "active" else "active, but no sweep came")
        level = DiagnosticStatus.WARN if lost or message != "active" else DiagnosticStatus.OK
        values = {"state": state, **{what: counts[what] for what in SWEEPS}, **self._statistics.milliseconds()}
        return status(f"{self._name}: sweeps", level, message, values)

    def _adaptation(self, adaptation, version, jobs, images, grown) -> DiagnosticStatus:
        failing = grown["rejected"] > 0
        message = f"{grown['rejected']} steps rejected" if failing else adaptation
        values = {
            "adaptation": adaptation,
            "paused": adaptation == "paused",
            "version": version,
            "jobs": jobs.submitted,
            "replaced": jobs.replaced,
            "accepted": jobs.accepted,
            "rejected": jobs.rejected,
            "failed": jobs.failed,
            **self._statistics.rejections(),
            **{f"images of {camera}": number for camera, number in images.items()},
        }
        level = DiagnosticStatus.WARN if failing else DiagnosticStatus.OK
        return status(f"{self._name}: adaptation", level, message, values)
