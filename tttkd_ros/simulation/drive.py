"""A drive down a simulated street: one `Frame` every tenth of a second, with the truth of every point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.frame import Frame, View
from tttkd_ros.simulation.appearance import Look, shade
from tttkd_ros.simulation.ego_motion import SIGHT, SPEED, EgoMotion, Rolling, firings
from tttkd_ros.simulation.layout import build
from tttkd_ros.simulation.parts import FUZZ, LABEL_OF_PART, PART, POROSITY, REFLECTIVITY
from tttkd_ros.simulation.raycast import GROUND, NOTHING, Primitives, cast
from tttkd_ros.simulation.sensors import LIDARS, Camera, Lidar
from tttkd_ros.simulation.street import Street, Style

PERIOD = 0.1  # seconds between sweeps
START = 1_700_000_000_000_000_000  # nanoseconds


@dataclass(frozen=True)
class World:
    """A domain: a town's style, a LiDAR and a camera."""

    style: Style
    lidar: Lidar
    camera: Camera = field(default_factory=Camera)


_SUBURB = Style()
# Narrower, older and greener, with larger vehicles: other layout and size statistics, as well as another sensor.
_TOWN = Style(
    lane=2.9,
    parking_width=2.1,
    parking_share=0.6,
    sidewalk=2.0,
    verge=1.2,
    block=55,
    building_length=12,
    building_height=11,
    building_gap=2,
    balconies=0.5,
    parked_cars=12,
    parked_trucks=90,
    traffic=50,
    traffic_trucks=0.2,
    trees=11,
    tree_size=1.25,
    hedges=12,
    fences=20,
    poles=12,
    bins=20,
    people=9,
    bikes=14,
    vehicle_size=1.08,
)
WORLDS = {
    "a2d2": World(_SUBURB, LIDARS["a2d2"]),
    "kitti": World(_TOWN, LIDARS["kitti"]),
    "nuscenes": World(_TOWN, LIDARS["nuscenes"]),
}


@dataclass(frozen=True)
class DriveProfile:
    """How a drive is gone along and measured.

    skip: seconds between sweeps. rolling: None for a sweep and an image that take no time. stop: seconds from the start
    between which the vehicle stands.
    """

    skip: float = PERIOD
    rolling: Rolling | None = None
    stop: tuple[float, float] = (0.0, 0.0)


STEADY = DriveProfile()


def world_named(name: str) -> World:
    """The world called `name`. ValueError: no such world."""
    if name not in WORLDS:
        raise ValueError(f"no world {name!r}: expected one of {', '.join(WORLDS)}")
    return WORLDS[name]


def frames(world: str | World, seed: int, sweeps: int, course: DriveProfile = STEADY) -> Iterator[Frame]:
    """The sweeps of one drive, each with the front camera's image and the truth; the same for the same arguments."""
    for frame, _, _ in drive_with_depth(world, seed, sweeps, course):
        yield frame


def drive(world: str | World, seed: int, sweeps: int, course: DriveProfile = STEADY) -> Iterator[tuple[Frame, np.ndarray]]:
    """As `frames`, each with the (H, W) uint8 map of `PARTS` that its image shows."""
    for frame, parts, _ in drive_with_depth(world, seed, sweeps, course):
        yield frame, parts


def drive_with_depth(
    world: str | World, seed: int, sweeps: int, course: DriveProfile = STEADY
) -> Iterator[tuple[Frame, np.ndarray, np.ndarray]]:
    """As `drive`, with the metres (H, W) float32 from the camera to what each pixel shows: infinity for the sky."""
    world, ride, look, rng = _setting(world, seed, sweeps, course)
    rolling = course.rolling
    for i in range(sweeps):
        time = i * course.skip
        stamp = START + round(time * 1e9)
        if rolling is None:
            pose, solids = ride.pose(time), ride.solids(time)
            points, intensity, labels = sweep(ride.street, world.lidar, pose, solids, rng)
            times, image_stamp = None, stamp
        else:
            points, intensity, labels, times = rolling_sweep(ride, world.lidar, time, rolling.duration, rng)
            pose, solids = ride.pose(time + rolling.image_delay), ride.solids(time + rolling.image_delay)
            image_stamp = stamp + round(rolling.image_delay * 1e9)
        image, parts, depth = photograph(ride.street, world.camera, pose, solids, look, rng)
        view = View("camera_front", image_stamp, image, world.camera.model, world.camera.camera_from_lidar)
        yield Frame(stamp, points, (view,), intensity, labels, times), parts, depth


def odometry(world: str | World, seed: int, sweeps: int, course: DriveProfile = STEADY) -> tuple[np.ndarray, np.ndarray]:
    """Where the LiDAR was in the drive of the same arguments, a hundred times a second: stamps (K,) nanoseconds, poses
    (K, 4, 4) world from LiDAR.
    """
    _, ride, _, _ = _setting(world, seed, sweeps, course)
    times = np.arange(-10, round(100 * (sweeps * course.skip + PERIOD))) / 100  # a tenth of a second more at both ends
    return START + np.rint(times * 1e9).astype(np.int64), np.stack([ride.pose(time) for time in times])


def _setting(world: str | World, seed: int, sweeps: int, course: DriveProfile):
    """The world, the ride through it, its look, and the random state that the sensors draw from."""
    world = world_named(world) if isinstance(world, str) else world
    rng = np.random.default_rng(seed)
    speed = SPEED if course.rolling is None else course.rolling.speed
    street = build(world.style, sweeps * course.skip * speed + 2 * SIGHT, rng, SIGHT / 2)
    look = Look.draw(rng)
    return world, EgoMotion(street, world.lidar.height, speed, rng.uniform(0, 2 * np.pi, 3), course.stop), look, rng


def _trace(street: Street, grid, pose: np.ndarray, solids: Primitives, reach: float):
    """Cast a grid of rays at solids and ground: reach, hit (rows, columns), part and world points, world directions
    (..., 3).
    """
    distance, hit = cast(grid, pose[:3, :3], pose[:3, 3], solids, reach)
    directions = np.einsum("ij,jrc->rci", pose[:3, :3], grid.directions)
    with np.errstate(divide="ignore", over="ignore"):
        flat = np.where(directions[..., 2] < -1e-4, -pose[2, 3] / np.minimum(directions[..., 2], -1e-4), np.inf)
    # Raised ground is met sooner: classify at the road's level, then lift, once.
    below = flat < distance * 1.5
    xy = pose[:2, 3] + flat[below, None] * directions[below, :2]
    part_below, height, _ = street.ground(xy[:, 0], xy[:, 1])
    raised = (height - pose[2, 3]) / directions[below, 2]
    closer = raised < distance[below]
    rows, columns = (axis[closer] for axis in np.nonzero(below))
    distance[rows, columns], hit[rows, columns] = raised[closer], GROUND
    part = np.full(distance.shape, PART["sky"], np.int16)
    part[rows, columns] = part_below[closer]
    solid = hit >= 0
    part[solid] = solids.part[hit[solid]]
    points = pose[:3, 3] + distance[..., None] * directions
    part[solid] = _windows(solids, hit[solid], part[solid], points[solid])
    return distance, hit, part, points, directions


def _windows(solids: Primitives, owner: np.ndarray, part: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`part` with the panes of each wall's regular windows marked."""
    walls = np.flatnonzero(part == PART["wall"])
    local = solids.local(owner[walls], points[walls])
    metres = local * solids.half[owner[walls]]
    across = np.where(np.abs(local[:, 0]) > np.abs(local[:, 1]), metres[:, 1], metres[:, 0])
    pattern = solids.pattern[owner[walls]]
    column = np.mod(across / (2.2 + 1.5 * pattern) + pattern, 1)
    row = np.mod((points[walls, 2] - 0.4) / (2.7 + 0.5 * pattern), 1)
    pane = (column > 0.28) & (column < 0.72) & (row > 0.35) & (row < 0.8) & (np.abs(local[:, 2]) < 0.99)
    part = part.copy()
    part[walls[pane]] = PART["window"]
    return part


def sweep(street: Street, lidar: Lidar, pose: np.ndarray, solids: Primitives, rng: np.random.Generator):
    """One sweep from `pose` (world from LiDAR): points (N, 3) float32 in the LiDAR frame, intensity (N,) float32,
    labels (N,) uint8.
    """
    distance, hit, part, _, _ = _trace(street, lidar, pose, solids, lidar.max_range)
    points, intensity, labels, _ = _measure(lidar, distance, hit, part, rng)
    return points, intensity, labels


def rolling_sweep(ride: EgoMotion, lidar: Lidar, time: float, duration: float, rng: np.random.Generator):
    """As `sweep`, but column after column from `time` (seconds) on: each point in the LiDAR frame of its own instant.
    Beside the rest times (N,) float64, seconds from `time` to that instant.
    """
    traced, times = [], []
    for firing in firings(lidar, duration):
        now = time + firing.time
        traced.append(_trace(ride.street, firing, ride.pose(now), ride.solids(now), lidar.max_range)[:3])
        times.append(np.full(traced[-1][0].shape, firing.time))
    distance, hit, part = (np.concatenate(columns, 1) for columns in zip(*traced, strict=True))
    points, intensity, labels, kept = _measure(lidar, distance, hit, part, rng)
    return points, intensity, labels, np.concatenate(times, 1)[kept]


def _measure(lidar: Lidar, distance: np.ndarray, hit: np.ndarray, part: np.ndarray, rng: np.random.Generator):
    """What a LiDAR makes of its rays' hits, all (beams, columns): as `sweep`, and which rays gave a point, bool."""
    porous = rng.random(distance.shape) < POROSITY[part]
    lost = rng.random(distance.shape) < lidar.dropout * (0.5 + distance / lidar.max_range)
    kept = (hit != NOTHING) & (part != PART["sky"]) & ~porous & ~lost
    part, distance = part[kept], distance[kept]
    distance = distance + rng.normal(0, lidar.noise, len(part)) + FUZZ[part] * np.abs(rng.normal(0, 1, len(part)))
    distance += np.where(part == PART["window"], 0.15, 0.0)  # panes are set back in the wall
    points = (lidar.directions[:, kept] * distance).T.astype(np.float32)
    intensity = np.clip(REFLECTIVITY[part] + rng.normal(0, 0.05, len(part)), 0, 1).astype(np.float32)
    return np.ascontiguousarray(points), intensity, LABEL_OF_PART[part], kept


def photograph(
    street: Street, camera: Camera, pose: np.ndarray, solids: Primitives, look: Look, rng: np.random.Generator
):
    """The camera's image (H, W, 3) uint8 from the LiDAR's `pose`, and what it shows: the map of `PARTS` (H, W) uint8,
    and how far off that is, (H, W) float32 metres, infinity for the sky.
    """
    world_from_camera = pose @ np.linalg.inv(camera.camera_from_lidar)
    distance, hit, part, points, directions = _trace(street, camera, world_from_camera, solids, SIGHT)
    length = np.linalg.norm(directions, axis=2)
    metres = distance * length
    flat = part.ravel()
    colours = shade(
        look,
        flat,
        points.reshape(-1, 3),
        metres.ravel(),
        (directions / length[..., None]).reshape(-1, 3),
        hit.ravel(),
        solids,
        rng,
    )
    depth = np.where(part == PART["sky"], np.inf, metres).astype(np.float32)
    return colours.reshape(camera.height, camera.width, 3), part.astype(np.uint8), depth
