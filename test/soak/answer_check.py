"""Compares every answer with the sweep that was sent."""

from __future__ import annotations

from collections.abc import Iterator

from .clouds import FRAME, Sweep

XYZ = [("x", 0, 7), ("y", 4, 7), ("z", 8, 7)]
MAX_AHEAD = 100_000  # sweeps between two answers


class AnswerCheck:
    """Checks answers against the sweeps in the order of sending. Sweeps may have no answer.

    Attributes:
        answers: number checked.
        problems: descriptions of wrong answers.
    """

    def __init__(self, sweeps: Iterator[Sweep]):
        self._sweeps = sweeps
        self._last: Sweep | None = None
        self.answers = 0
        self.problems: list[str] = []

    def check(self, answer) -> None:
        """Check a PointCloud2 of the node and add what is wrong to `problems`."""
        self.answers += 1
        frame = answer.header.frame_id
        if problem := self._problem(answer, frame):
            self.problems.append(f"the answer {frame}: {problem}")

    def _problem(self, answer, frame: str) -> str:
        last = self._last.number if self._last else -1
        number = int(frame.removeprefix(FRAME)) if frame.removeprefix(FRAME).isdecimal() else None
        if number is None or number > last + MAX_AHEAD:
            return "to nothing that was sent"
        if number == last:
            return "a second time"
        if number < last:
            return f"after that to {last}"
        self._last = next(sweep for sweep in self._sweeps if sweep.number == number)
        return _difference(answer, self._last)


def _difference(answer, sweep: Sweep) -> str:
    if sweep.expected is None:
        return f"to a cloud that has none: {sweep.kinds}"
    if answer.header.stamp != sweep.message.header.stamp:
        return f"stamp {answer.header.stamp} for {sweep.message.header.stamp}"
    if (answer.height, answer.width) != (sweep.message.height, sweep.message.width):
        return f"{answer.height} x {answer.width} for {sweep.message.height} x {sweep.message.width}"
    if [(field.name, field.offset, field.datatype) for field in answer.fields[:3]] != XYZ:
        return f"fields {answer.fields[:3]}"
    count = len(sweep.expected)
    data = bytes(answer.data)
    if len(data) != count * answer.point_step:
        return f"{len(data)} bytes for {count} points of {answer.point_step}"
    points = b"".join(data[start : start + 12] for start in range(0, len(data), answer.point_step))
    return "" if points == sweep.expected.tobytes() else f"other points: {sweep.kinds}"
