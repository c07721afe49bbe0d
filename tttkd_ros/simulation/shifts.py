"""Named target shifts: how a drive differs from the student's training world, `a2d2`.

Every shift has drives of its own: its name is part of the seed. So two shifts never share a cloud.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from tttkd_ros.frame import Frame
from tttkd_ros.simulation import effects
from tttkd_ros.simulation.drive import PERIOD, WORLDS, DriveProfile, World, drive
from tttkd_ros.simulation.effects import Effect, EffectContext, corrupt_images
from tttkd_ros.simulation.ego_motion import Rolling
from tttkd_ros.simulation.weather import darkness, fog, glare, rain

_KITTI = WORLDS["kitti"]


@dataclass(frozen=True)
class Shift:
    """A world, and the effects that are applied to each of its frames, in order."""

    description: str
    world: World = _KITTI
    effects: tuple[Effect, ...] = ()
    middle_effects: tuple[Effect, ...] | None = None  # replace `effects` in the drive's middle third

    def effects_at(self, index: int, sweeps: int) -> tuple[Effect, ...]:
        """Effects on sweep `index` of `sweeps`."""
        third = sweeps // 3
        in_middle = self.middle_effects is not None and third <= index < sweeps - third
        return self.middle_effects if in_middle else self.effects


def _with_lidar_raised(metres: float) -> World:
    """Raise the LiDAR of the `kitti` world, not the camera."""
    (camera,) = _KITTI.cameras
    x, y, z = camera.position
    lidar = replace(_KITTI.lidar, height=_KITTI.lidar.height + metres)
    return replace(_KITTI, lidar=lidar, cameras=(replace(camera, position=(x, y, z - metres)),))


def _with_all_around_lidar(*yaws: float) -> World:
    """Let the LiDAR of the `kitti` world see all around, with cameras of 90 degrees at these yaws, degrees."""
    names = {0: "camera_front", 90: "camera_left", 180: "camera_rear", -90: "camera_right"}
    (camera,) = _KITTI.cameras
    cameras = tuple(replace(camera, name=names[yaw], fov=90.0, position=(0.0, 0.0, -0.08), yaw=yaw) for yaw in yaws)
    return replace(_KITTI, lidar=replace(_KITTI.lidar, sector=180.0), cameras=cameras)


def _with_style(**statistics: float) -> World:
    """Replace some of the `kitti` world's `Style`."""
    return replace(_KITTI, style=replace(_KITTI.style, **statistics))


_FOG, _NIGHT = partial(fog, visibility=80), partial(darkness, light=0.03)
_SPARSE = partial(effects.thin_out_beams, step=4)

GROUPS: dict[str, dict[str, Shift]] = {
    "in distribution": {"source": Shift("the world that the student was trained in", WORLDS["a2d2"])},
    "sensor": {
        "kitti": Shift("another town, and 64 beams with more noise"),
        "nuscenes": Shift("the same layout with other colours, and 32 beams over a larger angle", WORLDS["nuscenes"]),
        "beams-32": Shift("every second of the 64 beams", effects=(partial(effects.thin_out_beams, step=2),)),
        "beams-16": Shift("every fourth of the 64 beams", effects=(_SPARSE,)),
        "mounted-low": Shift("the LiDAR 0.5 m lower", _with_lidar_raised(-0.5)),
        "mounted-high": Shift("the LiDAR 0.6 m higher", _with_lidar_raised(0.6)),
        "range-noise": Shift("5 cm more noise on the range",
                             effects=(partial(effects.add_range_noise, deviation=0.05),)),
        "dropout": Shift("half of the returns lost at random", effects=(partial(effects.drop_returns, share=0.5),)),
    },
    "weather": {
        "rain": Shift("rain of 15 mm/h on LiDAR and image", effects=(partial(rain, rate=15),)),
        "fog": Shift("fog of 80 m visibility on LiDAR and image", effects=(_FOG,)),
        "dark": Shift("3 % of the daylight, with the noise of few photons", effects=(_NIGHT,)),
        "glare": Shift("a low sun in front of the camera", effects=(partial(glare, strength=0.5),)),
    },
    "camera": {
        kind: Shift(f"{what}, ImageNet-C's severity 5", effects=(partial(corrupt_images, kind=kind),))
        for kind, what in (("shot-noise", "few photons on the image"), ("motion-blur", "blur along a random direction"),
                           ("brightness", "overexposure"), ("jpeg", "compression"))
    },
    "all around": {
        "one-camera": Shift("a LiDAR that sees all around, and a camera ahead", _with_all_around_lidar(0)),
        "four-cameras": Shift("a LiDAR and four cameras that see all around", _with_all_around_lidar(0, 90, 180, -90)),
    },
    "layout": {
        "suburb": Shift(
            "the source's layout of streets",
            replace(_KITTI, style=replace(WORLDS["a2d2"].style, palette=_KITTI.style.palette)),
        ),
        "old-town": Shift(
            "narrow and crowded, tall houses side by side, few trees",
            _with_style(lane=2.6, verge=0.3, sidewalk=2.6, block=80, building_length=10, building_gap=0.5,
                        parking_share=0.3, building_height=14, parked_trucks=45, people=3.5, bikes=6, bins=8, trees=30,
                        hedges=60),
        ),
        "large-vehicles": Shift(
            "vehicles a sixth larger, more of them lorries",
            _with_style(vehicle_size=1.25, parked_trucks=30, traffic_trucks=0.6, traffic=35),
        ),
    },
    "miscalibration": {
        f"miscalibrated-{degrees:g}": Shift(f"extrinsics rotated by {degrees:g}°",
                                            effects=(partial(effects.miscalibrate, degrees=degrees),))
        for degrees in (0.2, 0.5, 1, 2, 5)
    },
    "sequence": {
        "clear-fog-clear": Shift("fog in the middle third", middle_effects=(_FOG,)),
        "day-dark-day": Shift("darkness in the middle third", middle_effects=(_NIGHT,)),
        "beams-64-16-64": Shift("16 beams in the middle third", middle_effects=(_SPARSE,)),
        "camera-lost": Shift("no image in the middle third", middle_effects=(effects.lose_images,)),
        "camera-covered": Shift("a covered lens in the middle third", middle_effects=(effects.cover_lenses,)),
    },
}
SHIFTS: dict[str, Shift] = {name: shift for group in GROUPS.values() for name, shift in group.items()}


def drive_seed(name: str, seed: int) -> tuple[int, int]:
    """Return the seed of a shift's drive, so that no two shifts share a cloud."""
    return seed, zlib.crc32(name.encode())


def shifted_frames(
    name: str, seed: int, sweeps: int, *, rolling: Rolling | None = None, period: float = PERIOD
) -> Iterator[Frame]:
    """Simulate the sweeps of one drive under a shift in `SHIFTS`. Same arguments, same frames.

    period: seconds between sweeps. Raises ValueError for an unknown shift, or a sequence of fewer than three sweeps.
    """
    if name not in SHIFTS:
        raise ValueError(f"no shift {name!r}: expected one of {', '.join(SHIFTS)}")
    if SHIFTS[name].middle_effects is not None and sweeps < 3:
        raise ValueError(f"sweeps is {sweeps}: the sequence {name!r} has three parts and needs at least 3")
    return _shifted(name, seed, sweeps, DriveProfile(period, rolling))


def _shifted(name: str, seed: int, sweeps: int, profile: DriveProfile) -> Iterator[Frame]:
    shift = SHIFTS[name]
    own_seed = drive_seed(name, seed)
    for index, (frame, _, depths) in enumerate(drive(shift.world, own_seed, sweeps, profile)):
        for number, effect in enumerate(shift.effects_at(index, sweeps)):
            # Independent of the drive's own generator, so that effects do not change the drive.
            generators = (np.random.default_rng(np.random.SeedSequence(own_seed, spawn_key=(number, key)))
                          for key in (0, 1 + index))
            frame = effect(frame, EffectContext(shift.world.lidar, depths, *generators))
        yield frame
