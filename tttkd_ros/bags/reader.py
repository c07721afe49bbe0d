"""A bag as frames: each sweep with the images nearest in stamp and its truth, read as a stream."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tttkd_ros.bags import topics
from tttkd_ros.bags.bag_cameras import BagCamera, find_cameras
from tttkd_ros.bags.odometry import Received, compensation
from tttkd_ros.bags.salvage import open_readable
from tttkd_ros.bags.storage import Bag, Record, open_bag
from tttkd_ros.bags.transforms import Transforms
from tttkd_ros.bags.truth import has_labels, is_labelled, labels_of
from tttkd_ros.frame import Frame, View, truth_of_returns
from tttkd_ros.geometry.mounting import BASE_FRAME, Mounting
from tttkd_ros.geometry.rig import RigCamera, load_base_from_lidar, load_rig
from tttkd_ros.messages.calibrated_camera import CalibratedCamera
from tttkd_ros.messages.clocks import image_time
from tttkd_ros.messages.matching import TOLERANCE_S, ScanStamp, StampMatcher, Unmatched
from tttkd_ros.messages.point_cloud import decode_cloud
from tttkd_ros.messages.point_times import point_times
from tttkd_ros.messages.stamps import SECOND, stamp_of_raw

log = logging.getLogger(__name__)

WAITING_SWEEPS = 16  # how far a sweep's images and truth may lie behind it in the bag, and so what is held in memory
WAITING_IMAGES = 64  # of one camera: four to a sweep


class _Stamped(NamedTuple):
    stamp: int
    record: Record


class _Sweep(NamedTuple):
    moment: ScanStamp
    record: Record


class _Reading:
    """What one going through the bag has seen of the cameras, and what it has warned of."""

    def __init__(self, cameras: Sequence[BagCamera]):
        self.cameras = [(camera, camera.start()) for camera in cameras]
        self.infos = {camera.infos: started for camera, started in self.cameras if camera.infos is not None}
        self._warned: set[str] = set()

    def add_info(self, bag: Bag, record: Record) -> None:
        try:
            self.infos[record.topic].add(bag.decode(record), record.time)
        except ValueError as error:
            self.warn_once(record.topic, f"a message on {record.topic}, perhaps others: {error}")

    def warn_once(self, source: str, problem: str) -> None:
        if source not in self._warned:
            self._warned.add(source)
            log.warning("%s", problem)


class BagReader:
    """The frames of a bag. Every call of `frames` reads the bag anew, in constant memory, and yields the same.

    Cameras are as the live node sees them: an image goes by the CameraInfo that belongs to it, by the frame ids of that
    very image and sweep, and by what the /tf_static and /tf topics say then (see `CalibratedCamera`, `Transforms`).

    points_topic: where it is not the only PointCloud2. truth_topic: where it is not `topics.TRUTH_TOPIC`. If it is the
    sweeps' own, their field `label` of whole numbers is the truth. Without a truth topic that field counts only in
    clouds of this project's layout; others' labels are logged and left alone. cameras: names (their images'
    namespaces), by default every camera that can be used; those that cannot are logged and left out, while one named
    here must be usable. rig: a rig file, or what `load_rig` gives; what it says goes before CameraInfo and TF, and each
    of its cameras must be in the bag. tolerance_ns: largest distance in stamp between a sweep and its image.
    offsets_ns: from a sweep's stamp to that of its image, one for all cameras or one for each; () for none.
    fixed_frame: odometry's; where /tf tells the LiDAR's motion in it, views and deskewed points follow that motion,
    else they are as if the vehicle stood. base_frame: one whose z axis points up, by which TF tells how the LiDAR is
    mounted, unless the rig does; empty to level nothing by TF. truth: false leaves every label unread. channel_order,
    time_unit: as for `decode_image` and `point_times`. whole: the bag must be; else of a damaged one the part that can
    be read is taken, `damage` says how much that is, and `torn` whether it goes on behind a part that cannot.
    Raises ValueError for all else that is wrong with the bag or does not fit it.

    `cameras` and `unusable` (name -> reason) tell which cameras are there, `truth` where the labels come from,
    `lidar_frame` the frame of the first sweep. Without a truth, and for a sweep that it lacks, frames have no labels;
    without a camera they have no views.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        points_topic: str | None = None,
        cameras: Sequence[str] | None = None,
        truth_topic: str | None = None,
        rig: Path | str | dict[str, RigCamera] | None = None,
        tolerance_ns: int = round(TOLERANCE_S * SECOND),
        offsets_ns: Sequence[int] = (),
        fixed_frame: str = "odom",
        base_frame: str = BASE_FRAME,
        truth: bool = True,
        channel_order: str = "refuse",
        time_unit: str = "auto",
        whole: bool = True,
    ):
        self.path = Path(path)
        self._open = open_bag if whole else open_readable
        self._tolerance_ns = tolerance_ns
        self._time_unit = time_unit
        mounted = None if rig is None or isinstance(rig, dict) else load_base_from_lidar(rig)
        rig = rig if isinstance(rig, dict) else {} if rig is None else load_rig(rig)
        with self._open(self.path) as bag:
            self.damage, self.torn = bag.damage, bag.torn
            for note in (*bag.notes, *(f"{topic} is left out: {reason}" for topic, reason in bag.left_out.items())):
                log.warning("bag %s: %s", self.path, note)
            self.points_topic = points_topic or topics.points_topic(bag.types, bag.counts)
            topics.require_sweeps(bag.types, self.points_topic)
            self.truth_topic = truth_topic or (topics.TRUTH_TOPIC if bag.counts[topics.TRUTH_TOPIC] else None)
            self.truth_topic = self.truth_topic if truth else None
            if self.truth_topic is not None:
                topics.require(bag.types, self.truth_topic, topics.CLOUD)
            for topic in (self.points_topic, self.truth_topic):
                if topic is not None and not bag.counts[topic]:
                    raise ValueError(f"bag {self.path} holds no message on {topic}, expected at least one")
            self._sweeps = bag.counts[self.points_topic]
            first = bag.first(self.points_topic)
            if self.truth_topic == self.points_topic:
                if not has_labels(first):
                    raise ValueError(f"bag {self.path} has no truth on {self.truth_topic}: expected a field 'label' of "
                                     "whole numbers in its clouds")
                self._own_labels, self.truth_topic = True, None
            else:
                self._own_labels = truth and self.truth_topic is None and is_labelled(first)
                if truth and self.truth_topic is None and has_labels(first) and not self._own_labels:
                    log.warning("the field 'label' of %s is not taken for truth: if it holds this model's class ids, "
                                "give --truth-topic %s", self.points_topic, self.points_topic)
            self.truth = self.truth_topic or (f"label of {self.points_topic}" if self._own_labels else None)
            self.lidar_frame = first.header.frame_id
            self._transforms = Transforms(bag, lambda: self._open(self.path), self.points_topic)
            self._cameras, self.unusable = find_cameras(
                bag, self.points_topic, cameras, rig, self._transforms, channel_order
            )
            self._compensation = compensation(self.path, self._transforms, fixed_frame)
        self._mounting = Mounting(mounted, base_frame, self._transforms.lookup, log.info)
        self.cameras = tuple(camera.name for camera in self._cameras)
        self._offsets_ns = _per_camera(offsets_ns, self.cameras)
        if self.damage is None:
            self._open = open_bag  # it has been read through
        else:
            log.warning("%s; only the %d sweeps that can be read are used", self.damage, self._sweeps)
        for name, reason in self.unusable.items():
            log.warning("camera %s of bag %s is left out: %s", name, self.path, reason)

    def __len__(self) -> int:
        """Number of sweeps."""
        return self._sweeps

    def frames(self) -> Iterator[Frame]:
        """Every sweep, in the order of recording; a view for each camera whose image is near enough and sound."""
        reading = _Reading(self._cameras)
        offsets = {topic: self._offsets_ns[camera.name] for camera in self._cameras
                   for topic in (camera.topic, camera.infos) if topic is not None}
        offsets |= {self.truth_topic: 0} if self.truth_topic else {}
        beside = [topic for topic in offsets if topic not in reading.infos]
        # An image's own CameraInfo may be recorded after it.
        awaited = beside + [camera.infos for camera in self._cameras if camera.paired]
        matcher: StampMatcher[_Stamped | None] = StampMatcher(offsets, self._tolerance_ns, WAITING_IMAGES)
        waiting: deque[_Sweep] = deque()
        with self._open(self.path) as bag:

            def oldest() -> Frame:
                sweep = waiting.popleft()
                frame = self._frame(bag, sweep, matcher, reading)
                matcher.forget(sweep.moment)
                return frame

            def complete(sweep: _Sweep) -> bool:
                """Nothing nearer can come: every topic that counts has reached its stamp."""
                return all(matcher.reached(topic, sweep.moment) for topic in awaited)

            found = 0
            for record in bag.messages([self.points_topic, *beside, *reading.infos]):
                message = _Stamped(stamp_of_raw(record.data), record)
                leads = record.topic == self.points_topic
                if matcher.jumps_back(None if leads else record.topic, message.stamp):
                    while waiting:  # what waits has all that it will get
                        yield oldest()
                if leads:
                    found += 1
                    waiting.append(_Sweep(matcher.register(message.stamp), record))
                elif record.topic in reading.infos:
                    reading.add_info(bag, record)
                    matcher.add(record.topic, message.stamp, None)
                else:
                    matcher.add(record.topic, message.stamp, message)
                while waiting and (len(waiting) > WAITING_SWEEPS or complete(waiting[0])):
                    yield oldest()
            while waiting:
                yield oldest()
        if found != self._sweeps:
            raise ValueError(f"bag {self.path} is damaged: it counts {self._sweeps} sweeps, but has {found}")

    def _frame(self, bag: Bag, sweep: _Sweep, matcher: StampMatcher[_Stamped], reading: _Reading) -> Frame:
        stamp = sweep.moment.stamp
        labels = None
        try:
            message = bag.decode(sweep.record)
            cloud = decode_cloud(message)
            if self._own_labels and has_labels(message):
                labels = labels_of(message)
        except ValueError as error:
            raise ValueError(f"bag {self.path}, sweep stamped {stamp}: {error}") from error
        lidar = Received(message.header.frame_id, sweep.record.time)
        views, missing = [], {}
        for camera, started in reading.cameras:
            try:
                near = matcher.nearest(camera.topic, sweep.moment)
            except Unmatched as error:
                missing[camera.name] = str(error)
                continue
            try:
                views.append(self._view(bag, camera, started, near, lidar, stamp))
            except ValueError as error:
                missing[camera.name] = str(error)
                reading.warn_once(
                    camera.name, f"image of camera {camera.name} stamped {near.stamp}, perhaps others: {error}"
                )
        if self.truth_topic is not None:
            try:
                near = matcher.nearest(self.truth_topic, sweep.moment)
            except Unmatched:
                near = None
            labels = self._truth(bag, near, len(cloud.points)) if near and near.stamp == stamp else None
        times = partial(point_times, message, unit=self._time_unit)
        deskewed = self._compensation.deskewed(lidar, stamp, cloud.points, times) if views else None
        # Their own memory, lest a frame that is kept keeps its message, too.
        labels = None if labels is None else truth_of_returns(labels, cloud.points)
        return Frame(
            stamp, cloud.points, tuple(views), _own(cloud.intensity), labels, deskewed=deskewed,
            level=self._mounting.level(lidar.frame, stamp, lidar.time), frame_id=lidar.frame, missing=missing,
        )  # fmt: skip

    def _view(
        self, bag: Bag, camera: BagCamera, started: CalibratedCamera, image: _Stamped, lidar: Received, stamp: int
    ) -> View:
        """stamp: the sweep's."""

        def frame_from_lidar(frame: str, at: int) -> np.ndarray:
            return self._transforms.lookup(frame, lidar.frame, at, image.record.time)

        taken = image_time(image.stamp, self._offsets_ns[camera.name])
        moved = self._compensation.between(lidar, taken, stamp)
        return camera.view(started, bag.decode(image.record), image.record.time, frame_from_lidar, moved)

    def _truth(self, bag: Bag, truth: _Stamped, size: int) -> np.ndarray:
        """(N,) uint8"""
        try:
            labels = labels_of(bag.decode(truth.record))
        except ValueError as error:
            raise ValueError(f"bag {self.path}, truth stamped {truth.stamp}: {error}") from error
        if len(labels) != size:
            raise ValueError(f"bag {self.path}, stamp {truth.stamp}: truth for {len(labels)} points, but the sweep has "
                             f"{size}")
        return labels


def _per_camera(offsets: Sequence[int], cameras: Sequence[str]) -> dict[str, int]:
    if len(offsets) not in (0, 1, len(cameras)):
        raise ValueError(f"{len(offsets)} offsets are given, expected one for all cameras or one for each of the "
                         f"{len(cameras)}: {', '.join(cameras) or 'none'}")
    each = offsets if len(offsets) == len(cameras) else [*offsets, 0][:1] * len(cameras)
    return dict(zip(cameras, each, strict=True))


def _own(values: np.ndarray | None) -> np.ndarray | None:
    return None if values is None else values.copy()
