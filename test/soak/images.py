"""Images and camera infos for the sweeps, many of them damaged. They follow from the same seed."""

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

ImageMessage = Image | bytes  # bytes: a serialised message, which need not be one

# Images: from a valid one to what is sent before and after the sweep.

BeforeAndAfter = tuple[list[ImageMessage], list[ImageMessage]]


def image(generator: np.random.Generator, stamp: int, camera: str) -> Image:
    """Blocks of colour under noise."""
    blocks = generator.integers(0, 200, (HEIGHT // 14, WIDTH // 14, 3), np.uint8).repeat(14, 0).repeat(14, 1)
    return _image_of(blocks + generator.integers(0, 56, blocks.shape, np.uint8), stamp, camera)


def _image_of(pixels: np.ndarray, stamp: int, camera: str) -> Image:
    message = Image(height=pixels.shape[0], width=pixels.shape[1], step=3 * pixels.shape[1], encoding="rgb8")
    message.data = array.array("B", pixels.tobytes())
    return headed(message, stamp, f"{camera}_optical")


def _pixels(make: Callable[[np.random.Generator, tuple[int, int, int]], np.ndarray]):
    def change(generator, message: Image, stamp: int, camera: str) -> BeforeAndAfter:
        return [_image_of(make(generator, (message.height, message.width, 3)), stamp, camera)], []

    return change


def _altered(**values):
    def change(generator, message: Image, stamp: int, camera: str) -> BeforeAndAfter:
        for name, value in values.items():
            setattr(message, name, value)
        return [message], []

    return change


def _shifted(seconds: float):
    """Shift the stamp from the sweep's, within the range of stamps."""
    def change(generator, message: Image, stamp: int, camera: str) -> BeforeAndAfter:
        return [image(generator, min(max(0, stamp + round(seconds * SECOND)), LATEST), camera)], []

    return change


def _burst(generator, message: Image, stamp: int, camera: str) -> BeforeAndAfter:
    return [image(generator, max(0, stamp - back * SECOND // 100), camera) for back in range(30, -1, -1)], []


IMAGES: dict[str, Callable[[np.random.Generator, Image, int, str], BeforeAndAfter]] = {
    "well": lambda generator, message, stamp, camera: ([message], []),
    "missing": lambda generator, message, stamp, camera: ([], []),
    "late": lambda generator, message, stamp, camera: ([], [message]),
    "twice": lambda generator, message, stamp, camera: ([message, message], []),
    "too old": _shifted(-3.0),
    "from the future": _shifted(3.0),
    "burst": _burst,
    "frozen": _pixels(lambda generator, shape: np.full(shape, 77, np.uint8)),
    "noise": _pixels(lambda generator, shape: generator.integers(0, 256, shape, np.uint8)),
    "black": _pixels(lambda generator, shape: np.zeros(shape, np.uint8)),
    "wrong size": _pixels(lambda generator, shape: np.zeros((shape[0], shape[1] // 2, 3), np.uint8)),
    "wrong encoding": _altered(encoding="purple"),
    "encoding of another size": _altered(encoding="rgba16"),
    "huge claim": _altered(width=2**32 - 1, height=2**32 - 1),
    "no pixel": _altered(width=0, height=0),
    "no message": lambda generator, message, stamp, camera: ([generator.bytes(int(generator.integers(0, 40)))], []),
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
class CameraMessages:
    """The messages sent with a sweep, by camera, and the kinds of damage."""

    before: dict[str, list[ImageMessage]]
    after: dict[str, list[ImageMessage]]
    infos: dict[str, CameraInfo]
    kinds: tuple[str, ...]


FAULTS = ("dead", "frozen", "noise", "black")


class Cameras:
    """Cameras that are sometimes dead, frozen, noisy or covered for up to 150 sweeps. The second one starts late."""

    def __init__(self, seed: int):
        self._seed = seed
        self._faults = {CAMERAS[0]: ("", 0), CAMERAS[1]: ("dead", 100)}  # and for how many more sweeps

    def messages(self, sweep: Sweep) -> CameraMessages:
        generator = np.random.default_rng((self._seed, sweep.number, 1))
        before, after, infos, kinds = {}, {}, {}, []
        for camera in CAMERAS:
            fault, left = self._faults[camera]
            if not left and generator.random() < 1 / 150:
                fault, left = str(generator.choice(FAULTS)), int(generator.integers(20, 150))
                kinds.append(f"camera {fault}")
            self._faults[camera] = fault, max(0, left - 1)
            if left and fault == "dead":
                continue
            kind = fault if left else draw(generator, IMAGES)
            whole = image(generator, sweep.stamp, camera)
            before[camera], after[camera] = IMAGES[kind](generator, whole, sweep.stamp, camera)
            kinds.append(f"image {kind}")
            if generator.random() < 0.2:
                kind = draw(generator, INFOS)
                infos[camera] = info(camera, **INFOS[kind])
                kinds.append(f"info {kind}")
        return CameraMessages(before, after, infos, tuple(kinds))
