"""A procedural street: what stands along a gently winding road, drawn from a style's statistics."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.simulation.parts import PART
from tttkd_ros.simulation.raycast import Primitives

KERB_HEIGHT = 0.14


@dataclass(frozen=True)
class Style:
    """Layout and size statistics of a town.

    Lengths in metres, spacings are means of exponential gaps along one side of the road.
    """

    lane: float = 3.3
    parking_width: float = 2.3
    parking_share: float = 0.5  # of a block's sides that have a parking strip
    sidewalk: float = 2.2
    verge: float = 2.0  # grass between sidewalk and buildings
    block: float = 70.0  # between crossings
    building_length: float = 16.0
    building_height: float = 8.0
    building_gap: float = 4.0
    balconies: float = 0.3
    parked_cars: float = 9.0
    parked_trucks: float = 60.0
    traffic: float = 45.0
    traffic_trucks: float = 0.2
    trees: float = 12.0
    tree_size: float = 1.0
    hedges: float = 18.0
    fences: float = 30.0
    poles: float = 16.0
    bins: float = 30.0
    people: float = 14.0
    bikes: float = 22.0
    vehicle_size: float = 1.0


@dataclass
class Street:
    """Objects along `length` metres of road, in road coordinates: s along it, d to the left of its centre line.

    Built once by `build`; `primitives` gives the solids near one place in the world frame.
    """

    style: Style
    length: float
    amplitude: float
    wavelength: float
    crossings: np.ndarray  # (K,) s of each crossing's middle
    parking: np.ndarray  # (K + 1, 2) bool: block x (right, left)
    verge_height: float = 0.1
    _objects: list = field(default_factory=list)  # s, d, heading, speed, follows
    _solids: list = field(default_factory=list)  # object, kind, x, y, z, hx, hy, hz, part, r, g, b, pattern

    def centre(self, s):
        """Lateral world position and heading of the road's centre line at s."""
        phase = s / self.wavelength
        return self.amplitude * np.sin(phase), np.arctan(self.amplitude / self.wavelength * np.cos(phase))

    @property
    def kerb(self) -> np.ndarray:
        """(K + 1, 2) distance of the kerb from the centre line, block x (right, left)."""
        return self.style.lane + self.style.parking_width * self.parking

    def block(self, s):
        return np.searchsorted(self.crossings, s)

    def crossing(self, s):
        """Whether s lies on a crossing road."""
        return (np.abs(np.asarray(s)[..., None] - self.crossings) < self.style.lane).any(-1)

    def ground(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Part, height in metres and distance from the centre line of the ground at world points (any shape)."""
        lateral, _ = self.centre(x)
        d = y - lateral
        kerb = self.kerb[self.block(x), (d > 0).astype(int)]
        beyond = np.abs(d) - kerb
        part = np.full(np.shape(x), PART["road"], np.int16)
        part[(np.abs(d) < 0.08) & (np.mod(x, 6.0) < 3.0)] = PART["lane-marking"]
        part[(np.abs(d) > self.style.lane) & (beyond < 0)] = PART["parking"]
        part[beyond >= 0] = PART["kerb"]
        part[beyond > 0.2] = PART["sidewalk"]
        part[beyond > self.style.sidewalk] = PART["grass"]
        height = np.where(beyond >= 0, KERB_HEIGHT, 0.0) + np.where(
            beyond > self.style.sidewalk, self.verge_height, 0.0
        )
        across = self.crossing(x)
        part[across] = PART["road"]
        return part, np.where(across, 0.0, height).astype(np.float32), d

    def primitives(self, s: float, time: float, reach: float, driven: float) -> Primitives:
        """Solids of the objects within `reach` metres of s along the road at `time` seconds. driven: seconds that what
        follows the ego vehicle has been driving by then.
        """
        objects, solids = self._arrays
        along = objects[:, 0] + objects[:, 3] * np.where(objects[:, 4] > 0, driven, time)
        solids = solids[np.abs(along - s)[solids[:, 0].astype(int)] < reach]
        owner = solids[:, 0].astype(int)
        along = along[owner]
        lateral, heading = self.centre(along)
        yaw = heading + objects[owner, 2]
        cos, sin = np.cos(yaw), np.sin(yaw)
        # d is measured across the road, so that what lines the road follows its bends.
        x = along + cos * solids[:, 2] - sin * solids[:, 3]
        y = lateral + objects[owner, 1] + sin * solids[:, 2] + cos * solids[:, 3]
        return Primitives(
            solids[:, 1].astype(int),
            np.stack((x, y, solids[:, 4]), 1).astype(np.float32),
            solids[:, 5:8].astype(np.float32),
            yaw.astype(np.float32),
            solids[:, 8].astype(np.int16),
            solids[:, 9:12].astype(np.float32),
            solids[:, 12].astype(np.float32),
        )

    def place(
        self,
        rng: np.random.Generator,
        s: float,
        d: float,
        heading: float,
        solids: list,
        speed: float = 0.0,
        *,
        follows: bool = False,
    ) -> None:
        """Add one object: solids are (kind, centre xyz, half xyz, part, colour) in its own frame, x ahead.

        follows: it goes and stops as the ego vehicle does.
        """
        pattern = rng.random()
        for kind, centre, half, part, colour in solids:
            self._solids.append(
                (
                    len(self._objects),
                    kind,
                    *centre,
                    *np.maximum(half, 0.01),
                    PART[part],
                    *np.clip(colour, 0, 1),
                    pattern,
                )
            )
        self._objects.append((s, d, heading, speed, follows))

    def freeze(self) -> Street:
        self._arrays = np.array(self._objects), np.array(self._solids)
        return self
