"""The one thread that answers sweeps, in the order in which they came."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from sensor_msgs.msg import PointCloud2

from tttkd_ros.adaptation.governor import Governor
from tttkd_ros.frame import upright
from tttkd_ros.messages.camera_buffer import Cameras
from tttkd_ros.messages.limits import CLOUD_BYTES
from tttkd_ros.messages.matching import ScanStamp
from tttkd_ros.messages.point_cloud import decode_cloud, read_cloud
from tttkd_ros.messages.point_times import point_times
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros.outputs import labelled_cloud
from tttkd_ros.ros.sweeps import SweepQueue
from tttkd_ros.threads import join

MANY_LOST = 3  # sweeps in a row without an answer: it is not by chance


@dataclass(frozen=True)
class Sweep:
    msg: object  # with the attributes of a PointCloud2
    stamp: int
    arrived: float  # seconds, time.monotonic()
    moment: ScanStamp | None  # as the cameras noted it: they keep its images for as long as it is here


@dataclass(frozen=True)
class Answered:
    """A sweep's points (N, 3) and labels (N,) after its answer was published. latency: seconds from its arrival.
    times: as `Cameras.frame` takes them."""

    stamp: int
    frame_id: str
    points: np.ndarray
    labels: np.ndarray
    latency: float
    times: Callable[[], np.ndarray | None]


class Unreadable(ValueError):
    """Why a cloud cannot be decoded."""


class Inference:
    """Decode, segment, encode, publish; then `after` is told, for what may come later than the answer.

    The governor is told how long each took. Once adaptation has nothing left to give, a sweep that waited for longer
    than the deadline makes way for newer ones, and is counted. A sweep that cannot be decoded has no points to answer
    with: it is counted and complained about, as is one of more than `most_bytes`. Any other failure is reported and the
    thread lives on with the next sweep.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        palette: np.ndarray,
        cameras: Cameras | None,
        publish: Callable[[PointCloud2], object],
        after: Callable[[Answered], object],
        statistics: Statistics,
        warnings: ThrottledLog,
        failures: ThrottledLog,
        *,
        bound: int,
        most_bytes: int = CLOUD_BYTES,
        governor: Governor,
        time_unit: str = "auto",
        level: Callable[[str, int], np.ndarray | None] = lambda frame, stamp: None,
    ):
        self._pipeline = pipeline
        self._palette = palette
        self._cameras = cameras
        self._publish = publish
        self._after = after
        self._statistics = statistics
        self._warnings = warnings
        self._failures = failures
        self._most_bytes = most_bytes
        self._lost = 0  # sweeps in a row that could not be answered
        self._reason = ""  # why the last of them could not
        self._governor = governor
        self._time_unit = time_unit
        self._level = level
        self.version = 0  # of the weights behind the last answer
        self.problem = ""  # why almost no point of that sweep was in range
        self._queue: SweepQueue[Sweep] = SweepQueue(bound)
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What keeps the sweeps from being answered; empty if one of the last few was."""
        return f"the last {self._lost} sweeps got no answer: {self._reason}" if self._lost >= MANY_LOST else ""

    def submit(self, cdr: bytes, read: Callable[[bytes], object] = read_cloud) -> None:
        """cdr: a serialised cloud. read: makes of it an object with the attributes of a PointCloud2. Never waits."""
        self._statistics.count("sweeps in")
        try:
            if len(cdr) > self._most_bytes:
                raise ValueError(f"it has {len(cdr)} bytes, expected at most {self._most_bytes}; send single sweeps "
                                 "instead of maps, or raise the parameter limits.cloud_bytes")
            msg = read(cdr)
        except ValueError as error:
            self._refuse(error)
            return
        stamp = nanoseconds(msg.header.stamp)
        moment = self._cameras.add_sweep(stamp) if self._cameras else None
        if not self._queue.put(Sweep(msg, stamp, time.monotonic(), moment)):
            self._drop()

    def close(self) -> None:
        """Ends after the sweep in hand; sweeps still waiting are not answered, but counted as dropped."""
        for _ in range(self._queue.close()):
            self._statistics.count("sweeps dropped")
        join(self._thread)

    def _run(self) -> None:
        while (sweep := self._queue.take()) is not None:
            if self._too_late(sweep):
                self._drop()
                continue
            try:
                answered = self._answer(sweep)
            except Unreadable as error:
                self._refuse(error)
            except Exception as error:
                self._lose("failed", f"{type(error).__name__}: {error}")
                self._failures.failed(f"sweep at {sweep.stamp}", error)
            else:
                self._statistics.count("sweeps out")
                self._lost = 0
                self._follow_up(sweep, answered)

    def _refuse(self, reason: ValueError) -> None:
        self._lose("undecodable", str(reason))
        self._warnings.warn("points", f"cloud cannot be read, and so not answered: {reason}")

    def _lose(self, outcome: str, reason: str) -> None:
        self._statistics.count(f"sweeps {outcome}")
        self._lost, self._reason = self._lost + 1, reason

    def _too_late(self, sweep: Sweep) -> bool:
        waited = time.monotonic() - sweep.arrived
        return self._governor.exhausted and len(self._queue) > 0 and waited > self._governor.deadline_s

    def _drop(self) -> None:
        self._statistics.count("sweeps dropped")
        self._warnings.warn("points", "the student is slower than the sweeps: dropped the oldest that waited")

    def _answer(self, sweep: Sweep) -> Answered:
        msg = sweep.msg
        times = [time.monotonic()]
        try:
            cloud = decode_cloud(msg)
        except ValueError as error:
            raise Unreadable(str(error)) from error
        times.append(time.monotonic())
        stamp, frame_id, cameras = sweep.stamp, msg.header.frame_id, self._cameras
        told_times = partial(point_times, msg, unit=self._time_unit)  # unread until a frame asks for them
        level = self._level(frame_id, stamp)
        make_frame = None
        if cameras:
            make_frame = partial(cameras.frame, sweep.moment, cloud.points, frame_id, times=told_times, level=level)
        prediction = self._pipeline.process(stamp, upright(cloud.points, level), make_frame)
        self.version, self.problem = prediction.version, prediction.problem
        times.append(time.monotonic())
        answer = labelled_cloud(msg, cloud, prediction.labels, prediction.confidence, self._palette)
        times.append(time.monotonic())
        self._publish(answer)
        times.append(time.monotonic())
        stages = zip(("decode", "segment", "encode", "publish"), times, times[1:], strict=False)
        latency = times[-1] - sweep.arrived
        self._statistics.add_times({s: b - a for s, a, b in stages} | {"latency": latency})
        return Answered(stamp, frame_id, cloud.points, prediction.labels, latency, told_times)

    def _follow_up(self, sweep: Sweep, answered: Answered) -> None:
        try:
            self._govern(answered.stamp, sweep.arrived, answered.latency)
            self._after(answered)
        except Exception as error:
            self._failures.failed(f"what follows the answer to the sweep at {answered.stamp}", error)

    def _govern(self, stamp: int, arrived: float, latency: float) -> None:
        before = self._governor.share
        self._governor.observe(stamp, arrived, latency)
        share = self._governor.share
        if share.stretch > before.stretch:
            self._warnings.warn("deadline", f"latency is near it: stride stretched to {share.stretch} times")
        self._pipeline.shed(share)
