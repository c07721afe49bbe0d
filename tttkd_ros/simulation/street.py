"""A procedural street: objects along a gently winding road."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.simulation.palette import Palette
from tttkd_ros.simulation.parts import PART
from tttkd_ros.simulation.raycast import Solids

KERB_HEIGHT = 0.14


@dataclass(frozen=True)
class Style:
    """Layout and size statistics of a town in metres, and its colours. Spacings are means of exponential gaps along one
    side."""

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
    palette: Palette = Palette()


@dataclass
class Street:
    """Objects along `length` metres of road, in road coordinates: s along it, d to the left of its centre line.

    `layout.build` makes it. `solids_near` gives the solids around one place in the world frame.
    """

    style: Style
    length: float
    amplitude: float
    wavelength: float
    crossings: np.ndarray  # (K,) s of each crossing's middle
    parking: np.ndarray  # (K + 1, 2) bool: block x (right, left)
    verge_height: float = 0.1
    _objects: list = field(default_factory=list)  # s, d, heading, speed, follows_ego
    _solids: list = field(default_factory=list)  # object, kind, x, y, z, hx, hy, hz, part, r, g, b, pattern

    def centre_line(self, s):
        """Lateral world position (metres) and heading (radians) of the road's centre line at s."""
        phase = s / self.wavelength
        return self.amplitude * np.sin(phase), np.arctan(self.amplitude / self.wavelength * np.cos(phase))

    @property
    def kerb_distance(self) -> np.ndarray:
        """(K + 1, 2) metres from the centre line to the kerb, block x (right, left)."""
        return self.style.lane + self.style.parking_width * self.parking

    def block_index(self, s):
        return np.searchsorted(self.crossings, s)

    def on_crossing(self, s):
        """Whether s lies on a crossing road."""
        return (np.abs(np.asarray(s)[..., None] - self.crossings) < self.style.lane).any(-1)

    def ground(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find part and height of the ground at world coordinates of any shape, all in metres."""
        lateral, _ = self.centre_line(x)
        d = y - lateral
        kerb = self.kerb_distance[self.block_index(x), (d > 0).astype(int)]
        beyond = np.abs(d) - kerb
        part = np.full(np.shape(x), PART["road"], np.int16)
        part[(np.abs(d) < 0.08) & (np.mod(x, 6.0) < 3.0)] = PART["lane-marking"]
        part[(np.abs(d) > self.style.lane) & (beyond < 0)] = PART["parking"]
        part[beyond >= 0] = PART["kerb"]
        part[beyond > 0.2] = PART["sidewalk"]
        part[beyond > self.style.sidewalk] = PART["grass"]
        height = np.where(beyond >= 0, KERB_HEIGHT, 0.0)
        height = height + np.where(beyond > self.style.sidewalk, self.verge_height, 0.0)
        crossing = self.on_crossing(x)
        part[crossing] = PART["road"]
        return part, np.where(crossing, 0.0, height).astype(np.float32)

    def solids_near(self, s: float, time: float, max_distance: float, driving_time: float) -> Solids:
        """Solids of the objects within `max_distance` of `s`, metres along the road.

        time: seconds since the start. driving_time: seconds that traffic on the ego vehicle's lane has driven so far.
        """
        objects, solids = self._arrays
        along = objects[:, 0] + objects[:, 3] * np.where(objects[:, 4] > 0, driving_time, time)
        solids = solids[np.abs(along - s)[solids[:, 0].astype(int)] < max_distance]
        owner = solids[:, 0].astype(int)
        along = along[owner]
        lateral, heading = self.centre_line(along)
        yaw = heading + objects[owner, 2]
        cos, sin = np.cos(yaw), np.sin(yaw)
        # d is measured across the road, so that what lines the road follows its bends.
        x = along + cos * solids[:, 2] - sin * solids[:, 3]
        y = lateral + objects[owner, 1] + sin * solids[:, 2] + cos * solids[:, 3]
        centre, half = np.stack((x, y, solids[:, 4]), 1).astype(np.float32), solids[:, 5:8].astype(np.float32)
        kind, part = solids[:, 1].astype(int), solids[:, 8].astype(np.int16)
        colour, pattern = solids[:, 9:12].astype(np.float32), solids[:, 12].astype(np.float32)
        return Solids(kind, centre, half, yaw.astype(np.float32), part, colour, pattern)

    def add_object(self, generator: np.random.Generator, s: float, d: float, heading: float, solids: list,
                   speed: float = 0.0, *, follows_ego: bool = False) -> None:
        """Add an object with solids as in `objects`, a heading from the road's, and a speed along s.

        generator: draws the offset of its textures. follows_ego: it stops whenever the ego vehicle does.
        """
        pattern = generator.random()
        for kind, centre, half, part, colour in solids:
            row = (len(self._objects), kind, *centre, *np.maximum(half, 0.01), PART[part], *np.clip(colour, 0, 1))
            self._solids.append((*row, pattern))
        self._objects.append((s, d, heading, speed, follows_ego))

    def freeze(self) -> Street:
        """Prepare for `solids_near`, once all objects are added."""
        self._arrays = np.array(self._objects), np.array(self._solids)
        return self
