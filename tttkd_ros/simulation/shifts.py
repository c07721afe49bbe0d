"""Named target shifts: how a drive differs from what the student was trained on, the `a2d2` world.

For one seed and length every shift of the `kitti` world, but for those of layout, goes down the same street on the same
ride, and every shift made of effects alone starts from the very same sweeps and images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tttkd_ros.frame import Frame
from tttkd_ros.simulation.corruptions import Corruption
from tttkd_ros.simulation.drive import WORLDS, DriveProfile, World, drive_with_depth
from tttkd_ros.simulation.effects import Dropout, Effect, EveryBeam, Miscalibration, Moment, RangeNoise
from tttkd_ros.simulation.ego_motion import Rolling
from tttkd_ros.simulation.weather import Dark, Fog, Glare, Rain

_KITTI = WORLDS["kitti"]


@dataclass(frozen=True)
class Shift:
    """A world, and what is done to each of its frames, in order.

    halfway: None for effects that last for the whole drive; else those of its middle third, while `effects` are those
    of the first and the last.
    """

    description: str
    world: World = _KITTI
    effects: tuple[Effect, ...] = ()
    halfway: tuple[Effect, ...] | None = None

    def at(self, index: int, sweeps: int) -> tuple[Effect, ...]:
        """The effects on sweep `index` of `sweeps`."""
        third = sweeps // 3
        between = self.halfway is not None and third <= index < sweeps - third
        return self.halfway if between else self.effects


def _mounted(higher: float) -> World:
    """The LiDAR mounted that many metres higher, the camera where it was."""
    x, y, z = _KITTI.camera.position
    lidar = replace(_KITTI.lidar, height=_KITTI.lidar.height + higher)
    return replace(_KITTI, lidar=lidar, camera=replace(_KITTI.camera, position=(x, y, z - higher)))


def _built(**statistics: float) -> World:
    """A street with other statistics than the `kitti` world's, `Style`'s."""
    return replace(_KITTI, style=replace(_KITTI.style, **statistics))


_FOG, _NIGHT, _SPARSE = Fog(visibility=80), Dark(light=0.03), EveryBeam(4)

GROUPS: dict[str, dict[str, Shift]] = {
    "in distribution": {
        "source": Shift("the world that the student was trained in", WORLDS["a2d2"]),
    },
    "sensor": {
        "kitti": Shift("another town, and 64 beams with more noise"),
        "nuscenes": Shift("the same town, and 32 beams over a larger angle", WORLDS["nuscenes"]),
        "beams-32": Shift("every second of the 64 beams", effects=(EveryBeam(2),)),
        "beams-16": Shift("every fourth of the 64 beams", effects=(_SPARSE,)),
        "mounted-low": Shift("the LiDAR 0.5 m lower", _mounted(-0.5)),
        "mounted-high": Shift("the LiDAR 0.6 m higher", _mounted(0.6)),
        "range-noise": Shift("5 cm more noise on the range", effects=(RangeNoise(0.05),)),
        "dropout": Shift("half of the returns lost at random", effects=(Dropout(0.5),)),
    },
    "weather": {
        "rain": Shift("rain of 15 mm/h on LiDAR and image", effects=(Rain(rate=15),)),
        "fog": Shift("fog of 80 m visibility on LiDAR and image", effects=(_FOG,)),
        "dark": Shift("3 % of the light, and the noise of that", effects=(_NIGHT,)),
        "glare": Shift("a low sun before the camera", effects=(Glare(0.5),)),
    },
    "camera": {
        kind: Shift(f"{what}, ImageNet-C's severity 5", effects=(Corruption(kind, 5),))
        for kind, what in (("shot-noise", "few photons on the image"), ("motion-blur", "blur along a random direction"),
                           ("brightness", "overexposure"), ("jpeg", "compression"))
    },
    "layout": {
        "suburb": Shift("the source's style of street", replace(_KITTI, style=WORLDS["a2d2"].style)),
        "old-town": Shift(
            "narrow and crowded, tall houses side by side, few trees",
            _built(lane=2.6, verge=0.3, sidewalk=2.6, block=80, building_length=10, building_gap=0.5, parking_share=0.3,
                   building_height=14, parked_trucks=45, people=3.5, bikes=6, bins=8, trees=30, hedges=60),
        ),
        "large-vehicles": Shift(
            "vehicles a sixth larger, more of them lorries",
            _built(vehicle_size=1.25, parked_trucks=30, traffic_trucks=0.6, traffic=35),
        ),
    },
    "miscalibration": {
        f"miscalibrated-{degrees:g}": Shift(f"extrinsics rotated by {degrees:g}°", effects=(Miscalibration(degrees),))
        for degrees in (0.2, 0.5, 1, 2, 5)
    },
    "sequence": {
        "clear-fog-clear": Shift("fog in the middle third", halfway=(_FOG,)),
        "day-dark-day": Shift("darkness in the middle third", halfway=(_NIGHT,)),
        "beams-64-16-64": Shift("16 beams in the middle third", halfway=(_SPARSE,)),
    },
}
SHIFTS: dict[str, Shift] = {name: shift for group in GROUPS.values() for name, shift in group.items()}


def shift_named(name: str) -> Shift:
    """The shift called `name`. ValueError: no such shift."""
    if name not in SHIFTS:
        raise ValueError(f"no shift {name!r}: expected one of {', '.join(SHIFTS)}")
    return SHIFTS[name]


def shifted_frames(name: str, seed: int, sweeps: int, *, rolling: Rolling | None = None) -> Iterator[Frame]:
    """The sweeps of one drive under a shift, one at a time; the same for the same arguments.

    ValueError: no such shift, or a sequence in fewer than three sweeps.
    """
    shift = shift_named(name)
    if shift.halfway is not None and sweeps < 3:
        raise ValueError(f"sweeps is {sweeps}: the sequence {name!r} has three parts and needs at least 3")
    return _applied(shift, seed, sweeps, rolling)


def _applied(shift: Shift, seed: int, sweeps: int, rolling: Rolling | None) -> Iterator[Frame]:
    for index, (frame, _, depth) in enumerate(drive_with_depth(shift.world, seed, sweeps, DriveProfile(rolling=rolling))):
        for number, effect in enumerate(shift.at(index, sweeps)):
            frame = effect.apply(
                frame, Moment(shift.world.lidar, depth, _numbers(seed, number, 0), _numbers(seed, number, 1 + index))
            )
        yield frame


def _numbers(seed: int, *key: int) -> np.random.Generator:
    """Apart from those of the drive itself, so that these stay as they are without any effect."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
