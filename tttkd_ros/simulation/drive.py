"""Drive down a simulated street: one `Frame` per sweep, with the true class of every point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from tttkd_ros.frame import Frame, View
from tttkd_ros.simulation.appearance import Appearance
from tttkd_ros.simulation.ego_motion import SPEED, VIEW_DISTANCE, EgoMotion, Rolling
from tttkd_ros.simulation.layout import build
from tttkd_ros.simulation.palette import TARGET, TROPICAL, draw_palette
from tttkd_ros.simulation.rendering import measure_sweep, render_image
from tttkd_ros.simulation.sensors import LIDARS, Camera, Lidar
from tttkd_ros.simulation.street import Style

PERIOD = 0.1  # seconds between sweeps
START = 1_700_000_000_000_000_000  # nanoseconds


@dataclass(frozen=True)
class World:
    """A domain: a town's style, a LiDAR and cameras."""

    style: Style
    lidar: Lidar
    cameras: tuple[Camera, ...] = (Camera(),)


# Narrower, older and greener than the default style, with larger vehicles.
_TOWN = Style(
    lane=2.9, parking_width=2.1, parking_share=0.6, sidewalk=2.0, verge=1.2, block=55, building_length=12,
    building_height=11, building_gap=2, balconies=0.5, parked_cars=12, parked_trucks=90, traffic=50, traffic_trucks=0.2,
    trees=11, tree_size=1.25, hedges=12, fences=20, poles=12, bins=20, people=9, bikes=14, vehicle_size=1.08,
    palette=TARGET,
)  # fmt: skip
WORLDS = {
    "a2d2": World(Style(), LIDARS["a2d2"]),
    "kitti": World(_TOWN, LIDARS["kitti"]),
    "nuscenes": World(replace(_TOWN, palette=TROPICAL), LIDARS["nuscenes"]),
}


def draw_town(generator: np.random.Generator) -> World:
    """Draw a town that is none of `WORLDS`, with a camera of any mount and field of view. Its LiDAR has no use."""
    statistics = {
        field.name: getattr(Style, field.name) * generator.uniform(0.8, 1.35)
        for field in fields(Style) if field.name != "palette"
    }
    style = Style(**statistics, palette=draw_palette(generator))
    camera = Camera(fov=generator.uniform(60, 95))
    return World(style, Lidar((0.0,), sector=1.0, height=generator.uniform(1.3, 2.0)), (camera,))


@dataclass(frozen=True)
class DriveProfile:
    """Timing of a drive."""

    period: float = PERIOD  # seconds between sweeps
    rolling: Rolling | None = None  # None if sweeps and images take no time
    stop: tuple[float, float] = (0.0, 0.0)  # seconds after the start at which the vehicle stops and drives on


STEADY = DriveProfile()


def frames(
    world: str | World, seed: int | Sequence[int], sweeps: int, profile: DriveProfile = STEADY
) -> Iterator[Frame]:
    """Simulate the sweeps of one drive with the cameras' images. Same arguments, same frames.

    world: itself, or its name in `WORLDS`; ValueError for another name. seed: of street, traffic, light and noise.
    """
    for frame, _, _ in drive(world, seed, sweeps, profile):
        yield frame


def drive(world: str | World, seed: int | Sequence[int], sweeps: int, profile: DriveProfile = STEADY,
          ) -> Iterator[tuple[Frame, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]]:
    """As `frames`, with what each image shows: indices into `PARTS` (H, W) uint8, and how far away it is: metres
    (H, W) float32, infinity for the sky. Both are tuples in the order of the views."""
    world, motion, appearance, generator = _set_up(world, seed, sweeps, profile)
    rolling = profile.rolling
    duration, image_delay = (None, 0.0) if rolling is None else (rolling.duration, rolling.image_delay)
    for i in range(sweeps):
        time = i * profile.period
        stamp = START + round(time * 1e9)
        points, intensity, labels, times = measure_sweep(motion, world.lidar, time, duration, generator)
        image_stamp = stamp + round(image_delay * 1e9)
        rendered = [render_image(motion, camera, time + image_delay, appearance, generator) for camera in world.cameras]
        images, parts, depths = zip(*rendered, strict=True)
        views = tuple(
            View(camera.name, image_stamp, image, camera.model, camera.camera_from_lidar)
            for camera, image in zip(world.cameras, images, strict=True)
        )
        features = {"intensity": intensity} | ({} if rolling is None else {"time": times})
        yield Frame(stamp, points, views, features, labels), parts, depths


def odometry(world: str | World, seed: int | Sequence[int], sweeps: int, profile: DriveProfile = STEADY):
    """Poses of the LiDAR at 100 Hz, from 0.1 s before the drive of the same arguments until 0.1 s after it: stamps (K,)
    int64 nanoseconds, and poses (K, 4, 4) world from LiDAR."""
    _, motion, _, _ = _set_up(world, seed, sweeps, profile)
    times = np.arange(-10, round(100 * (sweeps * profile.period + PERIOD))) / 100
    return START + np.rint(times * 1e9).astype(np.int64), np.stack([motion.pose(time) for time in times])


def _set_up(world: str | World, seed: int | Sequence[int], sweeps: int, profile: DriveProfile):
    """The world, the ego vehicle's motion, the drive's appearance, and the generator of the sensors' noise."""
    if isinstance(world, str):
        if world not in WORLDS:
            raise ValueError(f"no world {world!r}: expected one of {', '.join(WORLDS)}")
        world = WORLDS[world]
    generator = np.random.default_rng(seed)
    speed = SPEED if profile.rolling is None else profile.rolling.speed
    length = sweeps * profile.period * speed + 2 * VIEW_DISTANCE
    street = build(world.style, length, generator, VIEW_DISTANCE / 2)
    appearance = Appearance.draw(world.style.palette, generator)
    motion = EgoMotion(street, world.lidar.height, speed, generator.uniform(0, 2 * np.pi, 3), profile.stop)
    return world, motion, appearance, generator
