"""The images and camera infos of a bad day, to go with the sweeps; they follow from the same seed."""

from __future__ import annotations

import array
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from .clouds import Sweep
from .common import CAMERAS, SECOND, draw, headed

WIDTH, HEIGHT, FOCAL = 112, 56, 60.0
LATEST = 2**31 * SECOND - 1  # stamp that a message can have

Picture = Image | bytes  # bytes: a serialised message, which need not be one

# Images: given one that is well, what is sent before the sweep, and what after it.

Pictures = tuple[list[Picture], list[Picture]]


def image(random: np.random.Generator, stamp: int, camera: str) -> Image:
    """Blocks of colour under noise."""
    blocks = random.integers(0, 200, (HEIGHT // 14, WIDTH // 14, 3), np.uint8).repeat(14, 0).repeat(14, 1)
    return _picture(blocks + random.integers(0, 56, blocks.shape, np.uint8), stamp, camera)


def _picture(pixels: np.ndarray, stamp: int, camera: str) -> Image:
    message = Image(height=pixels.shape[0], width=pixels.shape[1], step=3 * pixels.shape[1], encoding="rgb8")
    message.data = array.array("B", pixels.tobytes())
    return headed(message, stamp, f"{camera}_optical")


def _pixels(make: Callable[[np.random.Generator, tuple[int, int, int]], np.ndarray]):
    def change(random, message: Image, stamp: int, camera: str) -> Pictures:
        return [_picture(make(random, (message.height, message.width, 3)), stamp, camera)], []

    return change


def _altered(**values):
    def change(random, message: Image, stamp: int, camera: str) -> Pictures:
        for name, value in values.items():
            setattr(message, name, value)
        return [message], []

    return change


def _shifted(seconds: float):
    """Stamped so much later than the sweep, as far as a stamp can be."""
    def change(random, message: Image, stamp: int, camera: str) -> Pictures:
        return [image(random, min(max(0, stamp + round(seconds * SECOND)), LATEST), camera)], []

    return change


def _burst(random, message: Image, stamp: int, camera: str) -> Pictures:
    return [image(random, max(0, stamp - back * SECOND // 100), camera) for back in range(30, -1, -1)], []


PICTURES: dict[str, Callable[[np.random.Generator, Image, int, str], Pictures]] = {
    "well": lambda random, message, stamp, camera: ([message], []),
    "missing": lambda random, message, stamp, camera: ([], []),
    "late": lambda random, message, stamp, camera: ([], [message]),
    "twice": lambda random, message, stamp, camera: ([message, message], []),
    "too old": _shifted(-3.0),
    "from the future": _shifted(3.0),
    "burst": _burst,
    "frozen": _pixels(lambda random, shape: np.full(shape, 77, np.uint8)),
    "noise": _pixels(lambda random, shape: random.integers(0, 256, shape, np.uint8)),
    "black": _pixels(lambda random, shape: np.zeros(shape, np.uint8)),
    "wrong size": _pixels(lambda random, shape: np.zeros((shape[0], shape[1] // 2, 3), np.uint8)),
    "wrong encoding": _altered(encoding="purple"),
    "encoding of another size": _altered(encoding="rgba16"),
    "huge claim": _altered(width=2**32 - 1, height=2**32 - 1),
    "no pixel": _altered(width=0, height=0),
    "no message": lambda random, message, stamp, camera: ([random.bytes(int(random.integers(0, 40)))], []),
}


# CameraInfo.

INFOS: dict[str, dict] = {
    "well": {},
    "no focal length": {"k": [0.0] * 9},
    "not finite": {"k": [float("nan")] * 9},
    "coefficients": {"d": [0.0] * 3},
    "unknown model": {"distortion_model": "thin_prism"},
    "other size": {"width": 2 * WIDTH},
    "no size": {"width": 0, "height": 0},
}


def info(camera: str, **changes) -> CameraInfo:
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model="plumb_bob", d=[0.0] * 5)
    message.k = [FOCAL, 0.0, WIDTH / 2, 0.0, FOCAL, HEIGHT / 2, 0.0, 0.0, 1.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return headed(message, 0, f"{camera}_optical")


@dataclass(frozen=True)
class Shots:
    """What goes with a sweep, by camera: images before and after it, an info or none, and what was wrong."""

    before: dict[str, list[Picture]]
    after: dict[str, list[Picture]]
    infos: dict[str, CameraInfo]
    kinds: tuple[str, ...]


SPELLS = ("dead", "frozen", "noise", "black")


class Cameras:
    """Now and then one is dead, frozen, noisy or covered for up to 150 sweeps; the second one is not there at first."""

    def __init__(self, seed: int):
        self._seed = seed
        self._spells = {CAMERAS[0]: ("", 0), CAMERAS[1]: ("dead", 100)}  # and the sweeps that it goes on for

    def shots(self, sweep: Sweep) -> Shots:
        random = np.random.default_rng((self._seed, sweep.number, 1))
        before, after, infos, kinds = {}, {}, {}, []
        for camera in CAMERAS:
            spell, left = self._spells[camera]
            if not left and random.random() < 1 / 150:
                spell, left = str(random.choice(SPELLS)), int(random.integers(20, 150))
                kinds.append(f"camera {spell}")
            self._spells[camera] = spell, max(0, left - 1)
            if left and spell == "dead":
                continue
            kind = spell if left else draw(random, PICTURES)
            whole = image(random, sweep.stamp, camera)
            before[camera], after[camera] = PICTURES[kind](random, whole, sweep.stamp, camera)
            kinds.append(f"image {kind}")
            if random.random() < 0.2:
                kind = draw(random, INFOS)
                infos[camera] = info(camera, **INFOS[kind])
                kinds.append(f"info {kind}")
        return Shots(before, after, infos, tuple(kinds))
