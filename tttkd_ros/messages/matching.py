"""Match each LiDAR scan with the camera message nearest in stamp, and never with one from before a jump in time.

A scan is registered when it arrives, and asks for its images when it needs them. Stamps are integer nanoseconds. The
algorithm uses only the stamps and the order of arrival:

1. A camera's image belongs to a scan if its stamp is nearest to the scan's stamp plus the camera's offset, and within
   the tolerance.
2. Each camera keeps its newest images. A scan that is still referenced reserves its nearest image.
3. Messages may overtake each other by up to the tolerance. A stamp further back is a jump: a bag looped, or a clock was
   reset.
4. If a camera jumps back, it drops its images. No scan from before the jump gets an image of this camera again.
5. If the scans jump back, every camera drops its images, unless the camera jumped after the previous scan.
6. A camera that has not followed the scans' jump yet may send late images from before it. Their stamps are nearer to
   the scans before the jump. Only the last one is held until the next scan. If that scan continues from before the
   jump, a single stamp was wrong and the held image counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from tttkd_ros.messages.clocks import Lag, explain_clocks

Payload = TypeVar("Payload")

TOLERANCE_S = 0.05  # half the period of a 10 Hz LiDAR, so that every image belongs to its nearest scan
REMEDY = "see matching.tolerance and matching.offsets (evaluate: --tolerance, --offset)"
PATIENCE = 20  # scans; a camera that has sent nothing for so long is not expected to
MAX_AHEAD_NS = 60 * 10**9  # an image stamped further after the scan has a wrong stamp


class Unmatched(ValueError):
    """A scan has no image of a camera; the text is the reason."""


@dataclass(frozen=True)
class ScanStamp:
    """A registered scan: its stamp in ns, and its number in the order of arrival, from 1."""

    stamp: int
    number: int


class _Image(NamedTuple):
    stamp: int
    payload: object
    size: int  # bytes


@dataclass
class _Camera:
    """What is known of one camera since its last jump back."""

    offset: int  # nanoseconds from a scan's stamp to that of its image
    images: dict[int, _Image] = field(default_factory=dict)  # by stamp, in the order of arrival
    newest: int | None = None  # the highest stamp
    jumped: int = 0  # number of the last scan before the camera jumped back
    behind: bool = False  # the scans jumped back, and the camera has not followed yet
    held: _Image | None = None  # its last image while behind, until the next scan
    lag: Lag = field(default_factory=Lag)
    heard: int = 0  # number of the last scan before its newest image

    def clear(self) -> None:
        self.images.clear()
        self.newest = None
        self.lag = Lag()


class StampMatcher(Generic[Payload]):
    """Keeps each camera's newest messages and finds the one that belongs to a scan. Thread-safe; memory is bounded.

    offsets: camera -> nanoseconds from a scan's stamp to that of its image. tolerance: largest distance, nanoseconds,
    of an image from there. depth: messages kept per camera. max_bytes: bytes kept per camera, beside the newest
    message; reserved images may take as much again, and scans that have waited longest come first.
    Raises ValueError if tolerance or depth is out of range.
    """

    def __init__(self, offsets: Mapping[str, int], tolerance: int, depth: int, max_bytes: float = math.inf):
        if tolerance < 0:
            raise ValueError(f"tolerance is {tolerance} ns, expected 0 or more")
        if depth < 1:
            raise ValueError(f"depth is {depth} messages, expected at least 1")
        self._tolerance = tolerance
        self._depth = depth
        self._max_bytes = max_bytes
        # The nearest image so far of each scan that is still referenced, by camera.
        self._reserved: WeakKeyDictionary[ScanStamp, dict[str, _Image]] = WeakKeyDictionary()
        self._cameras = {name: _Camera(offset) for name, offset in offsets.items()}
        self._count = 0  # scans registered
        self._jumped = 0  # number of the last scan before the scans jumped back
        self._newest: int | None = None  # the highest stamp of the scans since that jump
        self._newest_before: int | None = None  # the highest stamp of the scans before it
        self._lock = Lock()

    def register(self, stamp: int) -> ScanStamp:
        """Register a scan as soon as it arrives. Keep the result for as long as the scan may need its images."""
        with self._lock:
            if self._jumps(stamp, self._newest):
                self._newest_before, self._newest = self._newest, stamp
                self._jumped = self._count
                for camera in self._cameras.values():
                    if camera.jumped != self._count or self._is_old(camera, camera.newest):
                        camera.clear()
                        camera.behind = True
            self._newest = stamp if self._newest is None else max(self._newest, stamp)
            for name, camera in self._cameras.items():
                # Not old any more if this scan continues from before the jump and so has moved `_newest` there.
                held, camera.held = camera.held, None
                if held and not self._is_old(camera, held.stamp):
                    self._add(name, held)
                if camera.newest is not None:
                    camera.lag.add(camera.newest, camera.newest - stamp - camera.offset)
            self._count += 1
            scan = ScanStamp(stamp, self._count)
            self._reserved[scan] = {}
            for name, camera in self._cameras.items():
                for image in camera.images.values():
                    self._reserve(scan, name, image)
            return scan

    def add(self, camera: str, stamp: int, payload: Payload, size: int = 0) -> None:
        """Keep a camera's message of `size` bytes. It replaces an earlier one with the same stamp."""
        with self._lock:
            self._cameras[camera].heard = self._count
            self._add(camera, _Image(stamp, payload, size))

    def nearest(self, camera: str, scan: ScanStamp) -> Payload:
        """The message that belongs to the scan, the earlier of two equally near. Raises Unmatched with the reason."""
        with self._lock:
            if self._is_past(camera, scan):
                raise Unmatched("time has jumped back since the sweep")
            state = self._cameras[camera]
            images = list(state.images.values())
            if (reserved := self._reserved.get(scan, {}).get(camera)) is not None:
                images.append(reserved)
            target = scan.stamp + state.offset
            image = min(images, key=lambda image: _distance(image, target), default=None)
            if image is not None and abs(image.stamp - target) <= self._tolerance:
                return image.payload
            clock_lag = state.lag.apart
        if clock_lag is not None:
            raise Unmatched(explain_clocks(clock_lag, state.offset, self._tolerance, scan.stamp))
        if image is None:
            raise Unmatched("no image")
        side = "too old" if image.stamp < target else "from the future"
        raise Unmatched(f"the nearest image is {abs(image.stamp - target) * 1e-9:.3f} s {side}, "
                        f"the tolerance {self._tolerance * 1e-9:g} s: {REMEDY}")

    def reached(self, camera: str, scan: ScanStamp) -> bool:
        """Whether the camera has sent an image as late as the scan's or later. In a recording no nearer one follows."""
        with self._lock:
            return 0 <= self._ahead(camera, scan) <= MAX_AHEAD_NS

    def expects(self, camera: str, scan: ScanStamp, wait: int) -> bool:
        """Whether the camera, at its present rate, will send an image that is the scan's and nearer than those it sent.

        wait: nanoseconds that it may take. No image is expected that a difference of the clocks keeps further behind.
        """
        with self._lock:
            if self._is_past(camera, scan):
                return False
            ahead, state = self._ahead(camera, scan), self._cameras[camera]
            if scan.number - state.heard > PATIENCE:
                return False
            if ahead >= 0:
                return ahead > MAX_AHEAD_NS
            if state.lag.apart is not None and -state.lag.apart > wait:
                return False
            stamps = sorted(state.images)
            period = min((b - a for a, b in zip(stamps, stamps[1:], strict=False)), default=0)
            if ahead >= -self._tolerance:
                return period < -2 * ahead
            if not period or ahead == -math.inf:
                return True
            first = math.ceil((-ahead - self._tolerance) / period) * period  # after the newest, the next not too early
            return first <= -ahead + self._tolerance

    def jumps_back(self, camera: str | None, stamp: int) -> bool:
        """Whether an image with this stamp, or a scan if `camera` is None, would make images be dropped."""
        with self._lock:
            return self._jumps(stamp, self._newest if camera is None else self._cameras[camera].newest)

    def forget(self, scan: ScanStamp) -> None:
        """Drop the images that are too old for this scan, and so for later ones."""
        with self._lock:
            for camera in self._cameras.values():
                first = scan.stamp + camera.offset - self._tolerance
                camera.images = {stamp: image for stamp, image in camera.images.items() if stamp >= first}

    def _add(self, name: str, image: _Image) -> None:
        camera = self._cameras[name]
        if camera.behind and self._is_old(camera, image.stamp):
            camera.held = image
            return
        camera.behind, camera.held = False, None
        if self._jumps(image.stamp, camera.newest):
            camera.clear()
            camera.jumped = self._count
        camera.newest = image.stamp if camera.newest is None else max(camera.newest, image.stamp)
        camera.images[image.stamp] = image
        size = sum(kept.size for kept in camera.images.values())
        while len(camera.images) > self._depth or (size > self._max_bytes and len(camera.images) > 1):
            size -= camera.images.pop(next(iter(camera.images))).size
        for scan in list(self._reserved):
            self._reserve(scan, name, image)

    def _reserve(self, scan: ScanStamp, name: str, image: _Image) -> None:
        """Keep the image for the scan if it is the nearest so far."""
        if self._is_past(name, scan):
            return
        target = scan.stamp + self._cameras[name].offset
        reserved = self._reserved[scan]
        previous = reserved.get(name)
        distance = _distance(image, target)
        nearer = previous is None or distance <= _distance(previous, target)
        if nearer and distance[0] <= self._tolerance and self._has_room(name, image, previous):
            reserved[name] = image

    def _has_room(self, name: str, image: _Image, previous: _Image | None) -> bool:
        """Whether the camera's reserved images stay within `max_bytes` if this one replaces the previous one."""
        sizes = {one.stamp: one.size for images in list(self._reserved.values()) if (one := images.get(name))}
        taken = sum(sizes.values()) - (previous.size if previous else 0)
        return image.stamp in sizes or taken <= 0 or taken + image.size <= self._max_bytes

    def _jumps(self, stamp: int, newest: int | None) -> bool:
        return newest is not None and stamp < newest - self._tolerance

    def _is_past(self, name: str, scan: ScanStamp) -> bool:
        """Whether the scans or the camera have jumped back since this scan."""
        return scan.number <= max(self._jumped, self._cameras[name].jumped)

    def _is_old(self, camera: _Camera, stamp: int) -> bool:
        """Whether an image's stamp is nearer to the scans before their jump back than to those since."""
        time = stamp - camera.offset
        return abs(time - self._newest_before) < abs(time - self._newest)

    def _ahead(self, name: str, scan: ScanStamp) -> float:
        """Nanoseconds by which the camera's newest image is later than the one that belongs to the scan."""
        camera = self._cameras[name]
        return -math.inf if camera.newest is None else camera.newest - scan.stamp - camera.offset


def _distance(image: _Image, target: int) -> tuple[int, int]:
    """Orders images by their distance from a stamp, the earlier one first at the same distance."""
    return abs(image.stamp - target), image.stamp
