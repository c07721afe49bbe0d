"""The thread that segments sweeps, in the order of their arrival."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from sensor_msgs.msg import PointCloud2

from tttkd_ros.adaptation.governor import Governor
from tttkd_ros.adaptation.targets import with_features_of
from tttkd_ros.classes import UNLABELLED
from tttkd_ros.features import missing
from tttkd_ros.frame import Frame, upright, upright_features
from tttkd_ros.messages.camera_buffer import CameraBuffer
from tttkd_ros.messages.limits import CLOUD_BYTES
from tttkd_ros.messages.matching import ScanStamp
from tttkd_ros.messages.point_cloud import Cloud, decode_cloud, read_cloud
from tttkd_ros.messages.point_times import point_times
from tttkd_ros.messages.stamps import nanoseconds
from tttkd_ros.monitoring.statistics import Statistics
from tttkd_ros.monitoring.throttled_log import ThrottledLog
from tttkd_ros.pipeline import FASTER, Pipeline
from tttkd_ros.ros.image_injector import ImageInjector
from tttkd_ros.ros.outputs import labelled_cloud
from tttkd_ros.segmenter.image_features import ImageFeatures
from tttkd_ros.segmenter.segmenter import RowFeatures
from tttkd_ros.threads import join

MIN_LOST = 3  # sweeps in a row without labels, from which they are not taken for chance
SLOW = f"predictions alone take nearly all of the deadline: {FASTER}"


@dataclass(frozen=True)
class Sweep:
    """A sweep that waits."""

    msg: object  # with the attributes of a PointCloud2
    stamp: int  # nanoseconds
    arrived: float  # seconds, time.monotonic()
    scan: ScanStamp | None  # keeps the sweep's images in the camera buffer; None without cameras


@dataclass(frozen=True)
class LabelledSweep:
    """A sweep whose labels are published."""

    scan: ScanStamp | None
    frame_id: str  # of the LiDAR
    points: np.ndarray  # (N, 3) float32, metres, LiDAR frame
    features: Mapping[str, np.ndarray]  # those that the student takes, see `Frame`
    labels: np.ndarray  # (N,) uint8
    times: Callable[[], np.ndarray | None]  # see `CameraBuffer.frame`
    level: np.ndarray | None  # see `Frame`
    latency_s: float  # from its arrival to the published labels
    frame: Frame | None = None  # with the teacher's features, if images were injected
    row_features: RowFeatures | None = None  # those of `Prediction`


class UnreadableCloud(ValueError):
    """A cloud that cannot be decoded."""


class Inference:
    """Decodes, segments, encodes and publishes every sweep, then submits it for training.

    A sweep that cannot be decoded, or is too large, is counted and warned about. Any other failure is reported, and the
    thread continues with the next sweep. If it does not help that adaptation gives way any further, a sweep that has
    waited longer than the deadline is dropped for a newer one, and counted.

    Args:
        pipeline: segments and adapts.
        palette: (256, 3) uint8, the colour of each label.
        cameras: None without cameras.
        publish: takes the labelled cloud.
        on_labelled: called after the sweep was published.
        statistics: counts and times.
        warnings, failures: logs that limit repetitions.
        queue_size: sweeps that may wait; beyond that the oldest is dropped.
        max_bytes: a larger cloud is refused.
        governor: chooses how much of the machine adaptation may take.
        time_unit: see `point_times`.
        level: gives the rotation (3, 3) that levels a LiDAR frame at a stamp, or None.
        features: names of those that the student takes of every point.
        injector: gives the image features that the student takes; None for a student without.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        palette: np.ndarray,
        cameras: CameraBuffer | None,
        publish: Callable[[PointCloud2], object],
        on_labelled: Callable[[LabelledSweep], object],
        statistics: Statistics,
        warnings: ThrottledLog,
        failures: ThrottledLog,
        *,
        queue_size: int,
        max_bytes: int = CLOUD_BYTES,
        governor: Governor,
        time_unit: str = "auto",
        level: Callable[[str, int], np.ndarray | None] = lambda frame, stamp: None,
        features: Iterable[str] = (),
        injector: ImageInjector | None = None,
    ):
        self._pipeline = pipeline
        self._palette = palette
        self._cameras = cameras
        self._publish = publish
        self._on_labelled = on_labelled
        self._statistics = statistics
        self._warnings = warnings
        self._failures = failures
        self._max_bytes = max_bytes
        self._governor = governor
        self._time_unit = time_unit
        self._level = level
        self._features = tuple(features)
        self._injector = injector
        self._lost, self._reason = 0, ""  # sweeps in a row without labels, and why the last one has none
        self.version = 0  # of the weights that labelled the last sweep
        self.problem = ""  # why almost no point of that sweep was in range
        self._queue: deque[Sweep] = deque()
        self._queue_size = queue_size
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why no sweep is labelled; empty if one of the last few was."""
        return f"the last {self._lost} sweeps got no labels: {self._reason}" if self._lost >= MIN_LOST else ""

    @property
    def slow(self) -> str:
        """That predictions are too slow without any step, and the remedy; empty if they are not."""
        return SLOW if self._governor.slow_alone else ""

    def submit(self, cdr: bytes, read: Callable[[bytes], object] = read_cloud) -> None:
        """Queue a serialised cloud; never wait. read: returns an object with the attributes of a PointCloud2."""
        self._statistics.count("sweeps in")
        try:
            if len(cdr) > self._max_bytes:
                raise ValueError(f"it has {len(cdr)} bytes, expected at most {self._max_bytes}; send single sweeps "
                                 "instead of maps, or raise the parameter limits.cloud_bytes")
            msg = read(cdr)
        except ValueError as error:
            self._refuse(error)
            return
        stamp = nanoseconds(msg.header.stamp)
        scan = self._cameras.add_sweep(stamp) if self._cameras else None
        with self._changed:
            full = len(self._queue) >= self._queue_size
            if full:
                self._queue.popleft()
            self._queue.append(Sweep(msg, stamp, time.monotonic(), scan))
            self._changed.notify()
        if full:
            self._drop()

    def close(self) -> None:
        """End after the current sweep. Sweeps that still wait are counted as dropped."""
        with self._changed:
            self._closed = True
            dropped = len(self._queue)
            self._queue.clear()
            self._changed.notify()
        for _ in range(dropped):
            self._statistics.count("sweeps dropped")
        join(self._thread)

    def _next(self) -> Sweep | None:
        """Wait for the oldest sweep. None after `close`."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            return None if self._closed else self._queue.popleft()

    def _run(self) -> None:
        while (sweep := self._next()) is not None:
            waited = time.monotonic() - sweep.arrived
            if self._governor.exhausted and self._queue and waited > self._governor.deadline_s:
                self._drop()
                continue
            try:
                labelled = self._label(sweep)
            except UnreadableCloud as error:
                self._refuse(error)
                continue
            except Exception as error:
                self._lose("failed", f"{type(error).__name__}: {error}")
                self._failures.failed(f"sweep at {sweep.stamp}", error)
                continue
            self._statistics.count("sweeps out")
            self._lost = 0
            try:
                self._govern(sweep, labelled.latency_s)
                self._adapt(sweep, labelled)
                self._on_labelled(labelled)
            except Exception as error:
                self._failures.failed(f"work after the labels of the sweep at {sweep.stamp}", error)

    def _label(self, sweep: Sweep) -> LabelledSweep:
        """Decode, segment, encode and publish."""
        times = [time.monotonic()]
        try:
            cloud, features = self._decode(sweep.msg)
        except ValueError as error:
            raise UnreadableCloud(str(error)) from error
        times.append(time.monotonic())
        frame_id = sweep.msg.header.frame_id
        level = self._level(frame_id, sweep.stamp)
        point_stamps = partial(point_times, sweep.msg, unit=self._time_unit)  # read only if a frame needs them
        frame = images = seen = None
        stages = ["decode", "segment", "encode", "publish"]
        if self._injector is not None and self._cameras:
            build = self._frame_builder(sweep.scan, cloud.points, frame_id, point_stamps, level, features)
            frame, images = self._inject(build, sweep)
            seen = np.zeros(len(cloud.points), bool) if images is None else images.patch.numpy() >= 0
            stages.insert(1, "images")
            times.append(time.monotonic())
        prediction = self._pipeline.segment(upright(cloud.points, level), upright_features(features, level), images)
        self.version, self.problem = prediction.version, prediction.problem
        if seen is not None:
            seen &= prediction.labels != UNLABELLED
        times.append(time.monotonic())
        message = labelled_cloud(sweep.msg, cloud, prediction.labels, prediction.confidence, self._palette, seen)
        times.append(time.monotonic())
        self._publish(message)
        times.append(time.monotonic())
        latency = times[-1] - sweep.arrived
        seconds = {stage: end - start for stage, start, end in zip(stages, times, times[1:], strict=False)}
        self._statistics.add_times(seconds | {"latency": latency})
        return LabelledSweep(
            sweep.scan, frame_id, cloud.points, features, prediction.labels, point_stamps, level, latency,
            frame, prediction.features,
        )

    def _inject(self, build: Callable[..., Frame], sweep: Sweep) -> tuple[Frame | None, ImageFeatures | None]:
        """Return the frame and the image features of a sweep. None if the teacher fails, which costs no cloud, or the
        guard does not trust the images."""
        if self._pipeline.distrusts_images:
            self._injector.withhold()
            return None, None
        try:
            return self._injector(lambda wait_s: build(wait_s=wait_s), sweep.arrived, self._governor.period_s)
        except Exception as error:
            self._failures.failed(f"image features of the sweep at {sweep.stamp}", error)
            return None, None

    def _frame_builder(self, scan: ScanStamp, points: np.ndarray, frame_id: str,
                       times: Callable[[], np.ndarray | None], level: np.ndarray | None,
                       features: Mapping[str, np.ndarray]) -> Callable[..., Frame]:
        return partial(self._cameras.frame, scan, points, frame_id, times=times, level=level, features=features)

    def _decode(self, msg) -> tuple[Cloud, dict[str, np.ndarray]]:
        """Return the cloud, and the features that the student takes. Raises ValueError if it lacks one."""
        cloud = decode_cloud(msg, ("intensity", *self._features))
        features = {name: values for name, values in cloud.features.items() if name in self._features}
        if "time" in self._features and (seconds := point_times(msg, unit=self._time_unit)) is not None:
            features["time"] = seconds.astype(np.float32)
        if reason := missing(self._features, features):
            raise ValueError(reason)
        return cloud, features

    def _govern(self, sweep: Sweep, latency_s: float) -> None:
        before, was_slow = self._governor.throttle, self.slow
        self._governor.observe(sweep.stamp, sweep.arrived, latency_s, self._pipeline.beside_step)
        throttle = self._governor.throttle
        if throttle.stride_factor > before.stride_factor:
            self._warnings.warn(
                "deadline", f"steps bring the latency near it: the stride is multiplied by {throttle.stride_factor}"
            )
        if self.slow and not was_slow:
            self._warnings.warn("deadline", self.slow)
        self._pipeline.throttle = throttle

    def _adapt(self, sweep: Sweep, labelled: LabelledSweep) -> None:
        build_frame = None
        if self._cameras:
            build_frame = self._frame_builder(labelled.scan, labelled.points, labelled.frame_id, labelled.times,
                                              labelled.level, labelled.features)
            if labelled.frame is not None:
                build_frame = partial(_with_late_images, labelled.frame, build_frame)
        self._pipeline.adapt(sweep.stamp, build_frame)

    def _refuse(self, reason: ValueError) -> None:
        self._lose("undecodable", str(reason))
        self._warnings.warn("points", f"cloud cannot be read, so it gets no labels: {reason}")

    def _lose(self, outcome: str, reason: str) -> None:
        self._statistics.count(f"sweeps {outcome}")
        self._lost, self._reason = self._lost + 1, reason

    def _drop(self) -> None:
        self._statistics.count("sweeps dropped")
        self._warnings.warn("points", "the student is slower than the sweeps: dropped the oldest that waited")


def _with_late_images(injected: Frame, build_frame: Callable[[], Frame]) -> Frame:
    """Return the frame that was injected; if it lacks an image, a new one, because that may have come since."""
    return with_features_of(build_frame(), injected) if injected.missing else injected
