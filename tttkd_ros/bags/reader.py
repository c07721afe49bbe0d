"""A bag as frames: each sweep with the images nearest in stamp and its truth, read as a stream."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.bag_cameras import BagCamera, CameraReading, find_cameras
from tttkd_ros.bags.labelled import decode_labels, find_class_set, find_truth, has_labels
from tttkd_ros.bags.storage import Bag, Record, open_bag
from tttkd_ros.bags.transforms import Received, Transforms
from tttkd_ros.frame import Frame, View, truth_of_returns
from tttkd_ros.geometry.mounting import BASE_FRAME, Mounting
from tttkd_ros.geometry.rig import load_base_from_lidar, load_rig
from tttkd_ros.messages.calibrated_camera import CalibratedCamera
from tttkd_ros.messages.clocks import image_time
from tttkd_ros.messages.image import decode_image
from tttkd_ros.messages.matching import TOLERANCE_S, ScanStamp, StampMatcher, Unmatched
from tttkd_ros.messages.point_cloud import decode_cloud, decode_features
from tttkd_ros.messages.point_times import point_times
from tttkd_ros.messages.stamps import SECOND

log = logging.getLogger(__name__)

MAX_WAITING_SWEEPS = 16  # how far images and truth may lie behind their sweep in the bag; bounds the memory
MAX_WAITING_IMAGES = 64  # of one camera: four to a sweep


class BagReader:
    """Reads the frames of a bag as the live node sees them, anew and in constant memory on every call of `frames`.

    An image uses the CameraInfo that belongs to it, the frame ids of itself and of its sweep, and the transforms of its
    time (see `CalibratedCamera`, `Transforms`). Without truth, frames have no labels; without cameras, no views.

    Args:
        points_topic: the sweeps' topic; needed if the bag has several.
        cameras: names (namespaces) of cameras that must be usable. By default all usable ones; the others are logged.
        truth_topic: see `find_truth`.
        rig: a rig file. It overrides CameraInfo and TF. The bag must have its cameras.
        tolerance_ns: largest distance in stamp between a sweep and its image.
        offsets_ns: from a sweep's stamp to its image's: one for all cameras or one for each; () for none.
        fixed_frame: the odometry frame on /tf. Views and deskewed points follow its motion; empty: no motion.
        base_frame: a frame with z up, which levels the sweeps by TF unless the rig does; empty: none.
        truth: False leaves all labels unread.
        channel_order, time_unit: see `decode_image`, `point_times`.

    The attribute `truth` is the labels' source in words, None without labels. `class_set`: the one whose ids they are,
    None if the bag does not say. `unusable`: camera -> why. `lidar_frame`:
    of the first sweep. `damage`: what a bag that was cut short lacks. Raises ValueError if an argument does not fit.
    """

    def __init__(
        self, path: Path | str, *, points_topic: str | None = None, cameras: Sequence[str] | None = None,
        truth_topic: str | None = None, rig: Path | str | None = None,
        tolerance_ns: int = round(TOLERANCE_S * SECOND), offsets_ns: Sequence[int] = (), fixed_frame: str = "odom",
        base_frame: str = BASE_FRAME, truth: bool = True, channel_order: str = "refuse", time_unit: str = "auto",
    ):  # fmt: skip
        self.path, self._tolerance_ns = Path(path), tolerance_ns
        self._channel_order, self._time_unit = channel_order, time_unit
        base_from_lidar, rig_cameras = (None, {}) if rig is None else (load_base_from_lidar(rig), load_rig(rig))
        with open_bag(self.path) as bag:
            self.damage = bag.damage
            for note in (*bag.notes, *(f"{topic} is left out: {reason}" for topic, reason in bag.left_out.items())):
                log.warning("bag %s: %s", self.path, note)
            self.points_topic = points_topic or topics.points_topic(bag.types, bag.counts)
            topics.require_sweeps(bag.types, self.points_topic)
            self._sweeps = bag.counts[self.points_topic]
            first = bag.first(self.points_topic)
            self.lidar_frame = first.header.frame_id
            self.truth = find_truth(bag, self.points_topic, first, truth_topic) if truth else None
            self.class_set = find_class_set(bag, self.truth) if self.truth else None
            self._transforms = Transforms(bag, lambda: open_bag(self.path), self.points_topic)
            self._cameras, self.unusable = find_cameras(
                bag, self.points_topic, cameras, rig_cameras, self._transforms
            )
        self._own_labels = self.truth == self.points_topic
        self._truth_topic = None if self._own_labels else self.truth
        self.truth = f"label of {self.points_topic}" if self._own_labels else self.truth
        self._compensation = self._transforms.compensation(fixed_frame)
        self._mounting = Mounting(base_from_lidar, base_frame, self._transforms.lookup, log.info)
        self.cameras = tuple(camera.name for camera in self._cameras)
        self._offsets_ns = _per_camera(offsets_ns, self.cameras)
        for name, reason in self.unusable.items():
            log.warning("camera %s of bag %s is left out: %s", name, self.path, reason)

    def __len__(self) -> int:
        """Number of sweeps."""
        return self._sweeps

    def frames(self) -> Iterator[Frame]:
        """Yield every sweep in the order of recording, with a view of each camera whose image is near and sound."""
        reading = CameraReading(self._cameras)
        offsets = {topic: self._offsets_ns[camera.name] for camera in self._cameras
                   for topic in (camera.topic, camera.infos) if topic is not None}
        if self._truth_topic is not None:
            offsets[self._truth_topic] = 0
        matched = [topic for topic in offsets if topic not in reading.infos]
        # An image's own CameraInfo may be recorded after it.
        awaited = matched + [camera.infos for camera in self._cameras if camera.paired]
        matcher: StampMatcher[Record | None] = StampMatcher(offsets, self._tolerance_ns, MAX_WAITING_IMAGES)
        waiting: deque[tuple[ScanStamp, Record]] = deque()
        with open_bag(self.path) as bag:

            def take_oldest() -> Frame:
                sweep, record = waiting.popleft()
                frame = self._frame(bag, sweep, record, matcher, reading)
                matcher.forget(sweep)
                return frame

            found = 0
            for record in bag.messages([self.points_topic, *matched, *reading.infos]):
                is_sweep, stamp = record.topic == self.points_topic, record.stamp
                if matcher.jumps_back(None if is_sweep else record.topic, stamp):
                    while waiting:  # nothing more can belong to these sweeps
                        yield take_oldest()
                if is_sweep:
                    found += 1
                    waiting.append((matcher.register(stamp), record))
                elif record.topic in reading.infos:
                    reading.add_info(bag, record)
                    matcher.add(record.topic, stamp, None)
                else:
                    matcher.add(record.topic, stamp, record)
                # No nearer message can follow once every awaited topic has reached the sweep's stamp.
                while waiting and (len(waiting) > MAX_WAITING_SWEEPS
                                   or all(matcher.reached(topic, waiting[0][0]) for topic in awaited)):
                    yield take_oldest()
            while waiting:
                yield take_oldest()
        if found != self._sweeps:
            raise ValueError(f"bag {self.path} is damaged: it counts {self._sweeps} sweeps, but has {found}")

    def _frame(
        self, bag: Bag, sweep: ScanStamp, record: Record, matcher: StampMatcher[Record], reading: CameraReading
    ) -> Frame:
        try:
            message = bag.decode(record)
            cloud = decode_cloud(message)
            labels = decode_labels(message) if self._own_labels and has_labels(message) else None
        except ValueError as error:
            raise ValueError(f"bag {self.path}, sweep stamped {sweep.stamp}: {error}") from error
        lidar = Received(message.header.frame_id, record.time)
        views, missing = [], {}
        for camera, calibration in reading.cameras:
            try:
                image = matcher.nearest(camera.topic, sweep)
                views.append(self._view(bag, camera, calibration, image, lidar, sweep.stamp))
            except Unmatched as error:
                missing[camera.name] = str(error)
            except ValueError as error:
                missing[camera.name] = str(error)
                problem = f"image of camera {camera.name} stamped {image.stamp}, perhaps others: {error}"
                reading.warn_once(camera.name, problem)
        if self._truth_topic is not None:
            labels = self._labels(bag, matcher, sweep, len(cloud.points))
        times = cache(partial(point_times, message, unit=self._time_unit))
        deskewed = self._compensation.deskewed(lidar, sweep.stamp, cloud.points, times) if views else None
        # Copies, so that a frame in use does not hold its whole message in memory.
        labels = None if labels is None else truth_of_returns(labels, cloud.points)
        features = {name: values.copy() for name, values in cloud.features.items()} | _further(message, times)
        return Frame(
            sweep.stamp, cloud.points, tuple(views), features, labels, deskewed=deskewed,
            level=self._mounting.level(lidar.frame, sweep.stamp, lidar.time), frame_id=lidar.frame, missing=missing,
        )  # fmt: skip

    def _view(
        self, bag: Bag, camera: BagCamera, calibration: CalibratedCamera, image: Record, lidar: Received, sweep: int
    ) -> View:
        """sweep: its stamp. Raises ValueError if the image cannot be decoded or located."""
        moved = self._compensation.between(lidar, image_time(image.stamp, self._offsets_ns[camera.name]), sweep)
        message = bag.decode(image)
        pixels = decode_image(message, channel_order=self._channel_order)
        model, camera_from_lidar = calibration.locate(
            image.stamp, pixels.shape[1::-1], message.header.frame_id,
            lambda frame: self._transforms.lookup(frame, lidar.frame, image.stamp, image.time), image.time,
        )  # fmt: skip
        frame_id = "" if camera.rig else message.header.frame_id or calibration.frame_id
        return View(camera.name, image.stamp, pixels, model, camera_from_lidar @ moved, frame_id)

    def _labels(self, bag: Bag, matcher: StampMatcher[Record], sweep: ScanStamp, size: int) -> np.ndarray | None:
        """(size,) uint8, of the truth with the sweep's own stamp; None if there is none."""
        try:
            truth = matcher.nearest(self._truth_topic, sweep)
        except Unmatched:
            return None
        if truth.stamp != sweep.stamp:
            return None
        try:
            labels = decode_labels(bag.decode(truth))
            if len(labels) != size:
                raise ValueError(f"truth for {len(labels)} points, but the sweep has {size}")
        except ValueError as error:
            raise ValueError(f"bag {self.path}, truth stamped {truth.stamp}: {error}") from error
        return labels


def _further(message, times: Callable[[], np.ndarray | None]) -> dict[str, np.ndarray]:
    """The features besides intensity. An odd one is left out: it is no reason to refuse points that are in order."""
    found = {}
    for name in ("rgb", "normal"):
        with suppress(ValueError):
            found |= decode_features(message, [name])
    with suppress(ValueError):
        found |= {} if (seconds := times()) is None else {"time": seconds.astype(np.float32)}
    return found


def _per_camera(offsets: Sequence[int], cameras: Sequence[str]) -> dict[str, int]:
    if len(offsets) not in (0, 1, len(cameras)):
        raise ValueError(f"{len(offsets)} offsets are given, expected one for all cameras or one for each of the "
                         f"{len(cameras)}: {', '.join(cameras) or 'none'}")
    each = offsets if len(offsets) == len(cameras) else [*offsets, 0][:1] * len(cameras)
    return dict(zip(cameras, each, strict=True))
