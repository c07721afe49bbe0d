"""The one thread that answers sweeps, in the order in which they came."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import PointCloud2

from tttkd_ros.messages.point_cloud import decode_cloud
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros.cameras import Cameras
from tttkd_ros.ros.complaints import Complaints
from tttkd_ros.ros.outputs import labelled_cloud
from tttkd_ros.ros.statistics import Statistics
from tttkd_ros.ros.sweeps import SweepQueue


@dataclass(frozen=True)
class Sweep:
    msg: PointCloud2
    arrived: float  # seconds, time.monotonic()


@dataclass(frozen=True)
class Answered:
    """A sweep's points (N, 3) and labels (N,) after its answer was published."""

    stamp: int
    frame_id: str
    points: np.ndarray
    labels: np.ndarray


class Inference:
    """Decode, segment, encode, publish; then `after` is told, for what may come later than the answer.

    A sweep that cannot be decoded has no points to answer with: it is counted and complained about. Any other failure
    is reported as an error and the thread lives on with the next sweep.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        palette: np.ndarray,
        cameras: Cameras | None,
        publish: Callable[[PointCloud2], object],
        after: Callable[[Answered], object],
        statistics: Statistics,
        complaints: Complaints,
        error: Callable[[str], object],
        *,
        bound: int,
    ):
        self._pipeline = pipeline
        self._palette = palette
        self._cameras = cameras
        self._publish = publish
        self._after = after
        self._statistics = statistics
        self._complaints = complaints
        self._error = error
        self.version = 0  # of the weights behind the last answer
        self._queue: SweepQueue[Sweep] = SweepQueue(bound)
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def submit(self, msg: PointCloud2) -> None:
        """Never waits."""
        self._statistics.count("sweeps in")
        if not self._queue.put(Sweep(msg, time.monotonic())):
            self._statistics.count("sweeps dropped")
            self._complaints.about("points", "the student is slower than the sweeps: dropped the oldest that waited")

    def close(self) -> None:
        """Ends after the sweep in hand; sweeps still waiting are not answered."""
        self._queue.close()
        self._thread.join()

    def _run(self) -> None:
        while (sweep := self._queue.take()) is not None:
            try:
                self._answer(sweep)
            except Exception:
                self._statistics.count("sweeps failed")
                self._error(f"sweep at {nanoseconds(sweep.msg.header.stamp)} failed:\n{traceback.format_exc()}")

    def _answer(self, sweep: Sweep) -> None:
        msg = sweep.msg
        times = [time.monotonic()]
        try:
            cloud = decode_cloud(msg)
        except ValueError as error:
            self._statistics.count("sweeps undecodable")
            self._complaints.about("points", f"cloud cannot be read, and so not answered: {error}")
            return
        times.append(time.monotonic())
        stamp, frame_id, cameras = nanoseconds(msg.header.stamp), msg.header.frame_id, self._cameras
        make_frame = None if cameras is None else lambda: cameras.frame(stamp, cloud.points, frame_id)
        prediction = self._pipeline.process(stamp, cloud.points, make_frame)
        self.version = prediction.version
        times.append(time.monotonic())
        answer = labelled_cloud(msg, cloud, prediction.labels, prediction.confidence, self._palette)
        times.append(time.monotonic())
        self._publish(answer)
        times.append(time.monotonic())
        self._statistics.count("sweeps out")
        stages = zip(("decode", "segment", "encode", "publish"), times, times[1:], strict=False)
        self._statistics.took({s: b - a for s, a, b in stages} | {"latency": times[-1] - sweep.arrived})
        self._after(Answered(stamp, frame_id, cloud.points, prediction.labels))
