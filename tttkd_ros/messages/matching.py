"""Which camera message belongs to a sweep: the one nearest in stamp, and never one from across a jump in time.

The LiDAR leads: each sweep is noted when it arrives, and asks for its images when it needs them. Stamps are integer
nanoseconds, and nothing but stamps and the order of arrival is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Generic, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

from tttkd_ros.messages.clocks import Lag, explain_clocks

Payload = TypeVar("Payload")

TOLERANCE_S = 0.05  # half the period of a 10 Hz LiDAR: any image there is belongs to its nearest sweep
REMEDY = "see matching.tolerance and matching.offsets (evaluate: --tolerance, --offset)"
ABSURD = 60 * 10**9  # an image stamped this far after the sweep that waits tells nothing of those on their way


class Unmatched(ValueError):
    """Why a sweep has no image of a camera."""


@dataclass(frozen=True)
class ScanStamp:
    """A sweep as it was noted. number: its place in the order of arrival.

    The matcher keeps the sweep's images for as long as somebody holds this object.
    """

    stamp: int
    number: int


class _Image(NamedTuple):
    stamp: int
    payload: object
    size: int


class _Ring:
    """A camera's newest images by stamp, in the order of arrival, none from before its last jump back."""

    def __init__(self, offset: int):
        self.offset = offset
        self.images: dict[int, _Image] = {}
        self.newest: int | None = None  # the highest stamp since the last jump back
        self.since = 0  # number of the last sweep before its last jump back
        self.behind = False  # the sweeps have jumped back, and this camera has not been seen to follow
        self.held: _Image | None = None  # its last image while behind, until the next sweep
        self.lag = Lag()

    def bound(self, depth: int, most_bytes: float) -> None:
        """Drop the oldest images beyond these limits, but never the last one."""
        size = sum(image.size for image in self.images.values())
        while len(self.images) > depth or (size > most_bytes and len(self.images) > 1):
            size -= self.images.pop(next(iter(self.images))).size

    def clear(self) -> None:
        self.images.clear()
        self.newest = None
        self.lag.clear()


class StampMatcher(Generic[Payload]):
    """Per camera the `depth` newest messages, undecoded. Safe to use from several threads; memory is bounded.

    offsets: of each camera that there is, what lies between a sweep's stamp and the stamp of the image that belongs to
    it. tolerance: largest distance from there. most_bytes: of the messages of a camera; its newest is kept in any case.
    Beside them, and up to as many bytes again, the images of every sweep are kept whose `ScanStamp` somebody holds: they
    are there however long the sweep waits for its turn.

    A stamp may lie up to `tolerance` before one that came earlier (messages overtake each other); one further back
    means that time jumped (a bag looped, a clock was reset). A camera that jumps back forgets its own images. Sweeps
    that do make every camera forget its images, except a camera that jumped since the sweep before: its images are of
    the new time already. A single wrong stamp therefore costs no more than what was kept.
    """

    def __init__(self, offsets: Mapping[str, int], tolerance: int, depth: int, most_bytes: float = math.inf):
        if tolerance < 0:
            raise ValueError(f"tolerance is {tolerance} ns, expected 0 or more")
        if depth < 1:
            raise ValueError(f"depth is {depth} messages, expected at least 1")
        self._tolerance = tolerance
        self._depth = depth
        self._most_bytes = most_bytes
        # Each sweep's nearest image so far, by camera; an entry goes with the last reference to its moment.
        self._reserved: WeakKeyDictionary[ScanStamp, dict[str, _Image]] = WeakKeyDictionary()
        self._rings: dict[str, _Ring] = {camera: _Ring(offset) for camera, offset in offsets.items()}
        self._count = 0  # sweeps noted
        self._since = 0  # sweeps up to this number are from before their last jump back
        self._sweep: int | None = None  # the highest stamp of the sweeps since they last jumped back
        self._left: int | None = None  # the highest one from before that jump
        self._lock = Lock()

    def sweep(self, stamp: int) -> ScanStamp:
        """Note a sweep, as soon as it arrives."""
        with self._lock:
            if self._before(stamp, self._sweep):
                self._left, self._sweep = self._sweep, stamp
                self._since = self._count
                for ring in self._rings.values():
                    jumped = ring.since == self._count  # since the sweep before this one
                    if not jumped or self._nearer_to_the_past(ring.newest - ring.offset):
                        ring.clear()
                        ring.behind = True
            self._sweep = stamp if self._sweep is None else max(self._sweep, stamp)
            for camera, ring in self._rings.items():
                # A sweep that goes on from where the jump began shows that there was a wrong stamp, and no jump.
                held, ring.held = ring.held, None
                if held and not self._nearer_to_the_past(held.stamp - ring.offset):
                    self._add(camera, held)
                if ring.newest is not None:
                    ring.lag.add(ring.newest, ring.newest - stamp - ring.offset)
            self._count += 1
            moment = ScanStamp(stamp, self._count)
            self._reserved[moment] = {}
            for camera, ring in self._rings.items():
                for image in ring.images.values():
                    self._reserve(moment, camera, image)
            return moment

    def add(self, camera: str, stamp: int, payload: Payload, size: int = 0) -> None:
        """Keep a camera's message of `size` bytes, the oldest giving way; a stamp seen before replaces what was kept
        under it."""
        with self._lock:
            self._add(camera, _Image(stamp, payload, size))

    def nearest(self, camera: str, moment: ScanStamp) -> Payload:
        """What belongs to the sweep, of two as near the earlier. Raises Unmatched with the reason why nothing does."""
        with self._lock:
            if self._is_past(camera, moment):
                raise Unmatched("time has jumped back since the sweep")
            ring = self._rings[camera]
            images = list(ring.images.values())
            if (reserved := self._reserved.get(moment, {}).get(camera)) is not None:
                images.append(reserved)
            target = moment.stamp + ring.offset
            image = min(images, key=lambda image: (abs(image.stamp - target), image.stamp), default=None)
            if image is not None and abs(image.stamp - target) <= self._tolerance:
                return image.payload
            apart = ring.lag.apart
        if apart is not None:
            raise Unmatched(explain_clocks(apart, ring.offset, self._tolerance, moment.stamp))
        if image is None:
            raise Unmatched("no image")
        stamp = image.stamp
        side = "too old" if stamp < target else "from the future"
        raise Unmatched(f"the nearest image is {abs(stamp - target) * 1e-9:.3f} s {side}, "
                        f"the tolerance {self._tolerance * 1e-9:g} s: {REMEDY}")

    def reached(self, camera: str, moment: ScanStamp) -> bool:
        """Whether the camera has sent an image as late as the sweep's or later: in a recording, none is to follow."""
        with self._lock:
            ahead = self._ahead(camera, moment)
            return ahead is not None and 0 <= ahead <= ABSURD

    def expects(self, camera: str, moment: ScanStamp) -> bool:
        """Whether the camera, if it goes on as before, will send a nearer image than those that are kept.

        One that is near enough already is as good as the next, where that would lie further away on the other side.
        """
        with self._lock:
            if self._is_past(camera, moment):
                return False
            ahead = self._ahead(camera, moment)
            if ahead is None or ahead < -self._tolerance:
                return True
            if ahead >= 0:
                return ahead > ABSURD
            stamps = sorted(self._rings[camera].images)
            period = min((b - a for a, b in zip(stamps, stamps[1:], strict=False)), default=0)
            return period < -2 * ahead

    def jumps_back(self, camera: str | None, stamp: int) -> bool:
        """Whether an image of this stamp, or a sweep where camera is None, would make images be forgotten."""
        with self._lock:
            return self._before(stamp, self._sweep if camera is None else self._rings[camera].newest)

    def forget(self, moment: ScanStamp) -> None:
        """Let go of what is too old for this sweep, and so for those that follow it."""
        with self._lock:
            for ring in self._rings.values():
                first = moment.stamp + ring.offset - self._tolerance
                ring.images = {stamp: image for stamp, image in ring.images.items() if stamp >= first}

    def _add(self, camera: str, image: _Image) -> None:
        ring, stamp = self._rings[camera], image.stamp
        if ring.behind and self._nearer_to_the_past(stamp - ring.offset):
            ring.held = image  # as stragglers from before the jump are
            return
        ring.behind, ring.held = False, None
        if self._before(stamp, ring.newest):
            ring.clear()
            ring.since = self._count
        ring.newest = stamp if ring.newest is None else max(ring.newest, stamp)
        ring.images[stamp] = image
        ring.bound(self._depth, self._most_bytes)
        for moment in list(self._reserved):
            self._reserve(moment, camera, image)

    def _reserve(self, moment: ScanStamp, camera: str, image: _Image) -> None:
        """Put the image aside for the sweep if none so far lies nearer."""
        if self._is_past(camera, moment):
            return
        target = moment.stamp + self._rings[camera].offset
        reserved = self._reserved[moment]
        before = reserved.get(camera)
        distance = abs(image.stamp - target), image.stamp
        nearer = before is None or distance <= (abs(before.stamp - target), before.stamp)
        if nearer and distance[0] <= self._tolerance and self._has_room(camera, image, before):
            reserved[camera] = image

    def _has_room(self, camera: str, image: _Image, before: _Image | None) -> bool:
        """Whether the camera's reserved images stay within the bound with this one in place of the one before."""
        sizes = {one.stamp: one.size for images in list(self._reserved.values()) if (one := images.get(camera))}
        taken = sum(sizes.values()) - (before.size if before else 0)
        return image.stamp in sizes or taken <= 0 or taken + image.size <= self._most_bytes

    def _before(self, stamp: int, newest: int | None) -> bool:
        return newest is not None and stamp < newest - self._tolerance

    def _is_past(self, camera: str, moment: ScanStamp) -> bool:
        """Whether the sweeps or the camera have jumped back since."""
        return moment.number <= max(self._since, self._rings[camera].since)

    def _nearer_to_the_past(self, stamp: int) -> bool:
        """Whether a stamp fits the sweeps before their jump back better than those since."""
        return abs(stamp - self._left) < abs(stamp - self._sweep)

    def _ahead(self, camera: str, moment: ScanStamp) -> int | None:
        """By how much the camera's newest image is later than what belongs to the sweep."""
        ring = self._rings[camera]
        return None if ring.newest is None else ring.newest - moment.stamp - ring.offset
