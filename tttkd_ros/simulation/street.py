"""A procedural street: what stands along a gently winding road, drawn from a style's statistics."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.simulation.parts import PART
from tttkd_ros.simulation.raycast import BOX, CYLINDER, ELLIPSOID, Primitives

_SIDES = (-1, 1)
_KERB_HEIGHT = 0.14
_OWN_LANE_SPEED = (7.9, 8.1)  # metres per second
_HEADWAY = 22.0  # metres to the next vehicle of the ego vehicle's own lane


@dataclass(frozen=True)
class Style:
    """Layout and size statistics of a town. Lengths in metres, spacings are means of exponential gaps along one side of the road."""

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

    Built once by `build`; `primitives(s, time)` gives the solids near one place in the world frame.
    """

    style: Style
    length: float
    amplitude: float
    wavelength: float
    crossings: np.ndarray  # (K,) s of each crossing's middle
    parking: np.ndarray  # (K + 1, 2) bool: block x (right, left)
    verge_height: float = 0.1
    _objects: list = field(default_factory=list)  # s, d, heading, speed
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
        height = np.where(beyond >= 0, _KERB_HEIGHT, 0.0) + np.where(beyond > self.style.sidewalk, self.verge_height, 0.0)
        across = self.crossing(x)
        part[across] = PART["road"]
        return part, np.where(across, 0.0, height).astype(np.float32), d

    def primitives(self, s: float, time: float, reach: float) -> Primitives:
        """Solids of the objects within `reach` metres of s along the road at `time` seconds."""
        objects, solids = self._arrays
        along = objects[:, 0] + objects[:, 3] * time
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
            solids[:, 1].astype(int), np.stack((x, y, solids[:, 4]), 1).astype(np.float32), solids[:, 5:8].astype(np.float32),
            yaw.astype(np.float32), solids[:, 8].astype(np.int16), solids[:, 9:12].astype(np.float32), solids[:, 12].astype(np.float32),
        )

    def place(self, rng: np.random.Generator, s: float, d: float, heading: float, solids: list, speed: float = 0.0) -> None:
        """Add one object: solids are (kind, centre xyz, half xyz, part, colour) in its own frame, x ahead."""
        pattern = rng.random()
        for kind, centre, half, part, colour in solids:
            self._solids.append((len(self._objects), kind, *centre, *np.maximum(half, 0.01), PART[part], *np.clip(colour, 0, 1), pattern))
        self._objects.append((s, d, heading, speed))

    def freeze(self) -> Street:
        self._arrays = np.array(self._objects), np.array(self._solids)
        return self


def build(style: Style, length: float, rng: np.random.Generator, start: float) -> Street:
    """Draw a street of `length` metres. No traffic is ahead of or behind an ego vehicle that sets out from `start` so close as to fill its view."""
    crossings = np.cumsum(rng.uniform(0.6, 1.4, int(2 * length / style.block) + 2) * style.block)
    crossings = crossings[crossings < length]
    parking = rng.random((len(crossings) + 1, 2)) < style.parking_share
    street = Street(style, length, rng.uniform(2, 7), rng.uniform(35, 60), crossings, parking, rng.uniform(0.0, 0.2))
    for side in _SIDES:
        _buildings(street, side, rng)
        _kerbside(street, side, rng)
        _greenery(street, side, rng)
        _moving(street, side, rng, start)
    return street.freeze()


def _gaps(rng, spacing, length, start=0.0, least=0.0):
    """Positions along the road with exponential gaps of `spacing` in the mean, none under `least`."""
    position = start
    while (position := position + least + rng.exponential(spacing - least)) < length:
        yield position


def _edge(street: Street, s: float, side: int) -> float:
    return float(street.kerb[street.block(s), int(side > 0)])


def _buildings(street, side, rng):
    style, s = street.style, 0.0
    while s < street.length:
        length = style.building_length * rng.uniform(0.6, 1.5)
        middle = s + length / 2
        clear = np.abs(middle - street.crossings).min(initial=np.inf) > length / 2 + style.lane + 2
        if clear:
            height, depth = style.building_height * rng.uniform(0.6, 1.5), rng.uniform(6, 12)
            colour = hue(rng, (0.82, 0.72, 0.58), 0.14)
            front = style.lane + style.parking_width + style.sidewalk + style.verge * rng.uniform(0.7, 1.5)
            solids = [(BOX, (0, 0, height / 2), (length / 2, depth / 2, height / 2), "wall", colour)]
            if rng.random() < 0.6:
                solids.append((BOX, (0, 0, height + 0.5), (length / 2 + 0.3, depth / 2 + 0.3, 0.5), "roof", hue(rng, (0.45, 0.25, 0.2), 0.1)))
            if rng.random() < style.balconies:
                floors, each = np.arange(3.2, height - 1, 3.0), np.arange(-length / 2 + 2, length / 2 - 2, 5.0)
                shade = hue(rng, (0.6, 0.6, 0.6), 0.15)
                solids += [(BOX, (x, -side * (depth / 2 + 0.6), z), (1.2, 0.6, 0.5), "balcony", shade) for z in floors for x in each]
            street.place(rng, middle, side * (front + depth / 2), rng.normal(0, 0.01), solids)
        s += length + style.building_gap * rng.uniform(0.2, 2.0)


def _kerbside(street, side, rng):
    style = street.style
    heading = 0.0 if side < 0 else np.pi  # right-hand traffic
    for s in _gaps(rng, style.parked_cars, street.length, least=5.2 * style.vehicle_size):
        if street.crossing(s) or not street.parking[street.block(s), int(side > 0)]:
            continue
        street.place(rng, s, side * (style.lane + style.parking_width / 2), heading + rng.normal(0, 0.04), car(rng, style.vehicle_size))
    for s in _gaps(rng, style.parked_trucks, street.length):
        if not street.crossing(s):
            street.place(rng, s, side * (style.lane + style.parking_width / 2 - 0.1), heading, truck(rng, style.vehicle_size))
    for s in _gaps(rng, style.poles, street.length):
        street.place(rng, s, side * (_edge(street, s, side) + 0.5), 0.0, pole(rng))
    for s in _gaps(rng, style.bins, street.length):
        colour = hue(rng, (0.12, 0.30, 0.22), 0.08)
        height = rng.uniform(0.4, 0.65)
        solids = [(BOX, (0, 0, height + _KERB_HEIGHT), (rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.4), height), "bin", colour)]
        street.place(rng, s, side * (_edge(street, s, side) + rng.uniform(0.6, style.sidewalk)), rng.normal(0, 0.3), solids)


def _greenery(street, side, rng):
    style = street.style
    for s in _gaps(rng, style.trees, street.length):
        d = _edge(street, s, side) + (0.7 if rng.random() < 0.4 else style.sidewalk + rng.uniform(0.3, 1.0) * style.verge)
        if not street.crossing(s):
            street.place(rng, s, side * d, rng.uniform(0, 6), tree(rng, style.tree_size))
    for s in _gaps(rng, style.hedges, street.length):
        length, height = rng.uniform(0.8, 5), rng.uniform(0.4, 1.1)
        kind = BOX if length > 2 else ELLIPSOID
        solids = [(kind, (0, 0, height + 0.1), (length / 2, rng.uniform(0.4, 0.8), height), "hedge", hue(rng, (0.18, 0.34, 0.12), 0.08))]
        if not street.crossing(s):
            street.place(rng, s, side * (_edge(street, s, side) + style.sidewalk + rng.uniform(0.6, 1.2)), rng.normal(0, 0.05), solids)
    for s in _gaps(rng, style.fences, street.length):
        length, height = rng.uniform(3, 9), rng.uniform(0.45, 0.9)
        solids = [(BOX, (0, 0, height + _KERB_HEIGHT), (length / 2, 0.04, height), "fence", hue(rng, (0.45, 0.30, 0.20), 0.08))]
        if not street.crossing(s):
            street.place(rng, s, side * (_edge(street, s, side) + style.sidewalk + rng.uniform(0.1, 0.4)), 0.0, solids)


def _moving(street, side, rng, start):
    style = street.style
    heading = 0.0 if side < 0 else np.pi
    for s in _gaps(rng, style.traffic, 2 * street.length, start=-street.length / 2, least=12.0):
        vehicle = truck if rng.random() < style.traffic_trucks else car
        # Traffic of the ego vehicle's own lane keeps its speed, roughly; the other lane's comes towards it.
        speed = rng.uniform(*_OWN_LANE_SPEED) if side < 0 else -rng.uniform(5, 11)
        if side > 0 or abs(s - start) > _HEADWAY:
            street.place(rng, s, side * style.lane / 2, heading, vehicle(rng, style.vehicle_size), speed)
    for s in _gaps(rng, style.people, street.length):
        d = _edge(street, s, side) + rng.uniform(0.4, style.sidewalk)
        walk = rng.choice((-1, 0, 1)) * rng.uniform(0.8, 1.6)
        street.place(rng, s, side * d, 0.0 if walk >= 0 else np.pi, person(rng), walk)
    for s in _gaps(rng, style.bikes, street.length):
        ridden = rng.random() < 0.6
        d = _edge(street, s, side) + (-0.6 if ridden else rng.uniform(0.3, 0.8))
        turn = rng.normal(0, 0.05) if ridden else rng.uniform(0, 3)
        street.place(rng, s, side * d, heading + turn, bike(rng, ridden), (rng.uniform(2, 5) if side < 0 else -rng.uniform(2, 5)) * ridden)


def hue(rng, mean, spread):
    """A colour about `mean`: brightness varies most, hue less."""
    return np.clip(np.array(mean) * rng.uniform(0.8, 1.2) + rng.normal(0, spread / 2, 3), 0.03, 0.97)


def _paint(rng):
    grey = rng.random() < 0.55
    return np.full(3, rng.choice((0.08, 0.3, 0.55, 0.85))) + rng.normal(0, 0.03, 3) if grey else rng.uniform(0.05, 0.8, 3)


def _wheels(length, width, radius, part):
    return [
        (ELLIPSOID, (x * length * 0.32, y * (width / 2 - 0.08), radius), (radius, 0.14, radius), part, (0.06, 0.06, 0.07))
        for x in (-1, 1) for y in _SIDES
    ]


def car(rng, size):
    length, width, height = size * rng.normal((4.3, 1.8, 1.5), (0.35, 0.07, 0.12))
    colour, cabin = _paint(rng), rng.uniform(0.45, 0.6)
    body = height * 0.56
    return [
        (BOX, (0, 0, 0.22 + (body - 0.22) / 2), (length / 2, width / 2, (body - 0.22) / 2), "car-body", colour),
        (BOX, (-length * rng.uniform(0.02, 0.1), 0, (body + height) / 2), (length * cabin / 2, width * 0.43, (height - body) / 2), "car-window",
         (0.12, 0.14, 0.17)),
        (BOX, (-length * 0.06, 0, height), (length * cabin * 0.42, width * 0.4, 0.04), "car-body", colour),
        *_wheels(length, width, 0.31, "car-wheel"),
    ]


def truck(rng, size):
    length, width, height = size * rng.normal((7.0, 2.3, 3.0), (1.0, 0.1, 0.3))
    cab = 1.9
    return [
        (BOX, (-cab / 2, 0, (height + 0.7) / 2), ((length - cab) / 2, width / 2, (height - 0.7) / 2), "truck-cargo", _paint(rng)),
        (BOX, (length / 2 - cab / 2 + 0.1, 0, 0.45 + height * 0.35), (cab / 2 - 0.1, width * 0.46, height * 0.35), "truck-cab", _paint(rng)),
        *_wheels(length, width, 0.48, "truck-wheel"),
    ]


def bike(rng, ridden):
    colour, radius = _paint(rng), rng.uniform(0.32, 0.36)
    solids = [
        (ELLIPSOID, (x, 0, radius), (radius, 0.04, radius), "bike-frame", (0.1, 0.1, 0.1)) for x in (-0.52, 0.52)
    ] + [(BOX, (0, 0, 0.62), (0.5, 0.05, 0.18), "bike-frame", colour), (BOX, (0.45, 0, 1.0), (0.05, 0.28, 0.06), "bike-frame", colour)]
    if ridden:
        cloth = rng.uniform(0.05, 0.9, 3)
        solids += [
            (ELLIPSOID, (0.05, 0, 1.25), (0.24, 0.22, 0.38), "rider", cloth), (ELLIPSOID, (0.18, 0, 1.72), (0.12, 0.1, 0.13), "rider", (0.7, 0.55, 0.45)),
            (CYLINDER, (0, 0.1, 0.7), (0.1, 0.08, 0.4), "rider", cloth * 0.6), (CYLINDER, (0, -0.1, 0.7), (0.1, 0.08, 0.4), "rider", cloth * 0.6),
        ]
    return solids


def person(rng):
    height, girth = rng.normal(1.7, 0.12), rng.uniform(0.85, 1.25)
    ground, cloth, legs = _KERB_HEIGHT, rng.uniform(0.05, 0.9, 3), rng.uniform(0.05, 0.5, 3)
    stride = rng.uniform(0, 0.18)
    return [
        (CYLINDER, (stride, 0.1, ground + 0.24 * height), (0.08, 0.08, 0.24 * height), "person-body", legs),
        (CYLINDER, (-stride, -0.1, ground + 0.24 * height), (0.08, 0.08, 0.24 * height), "person-body", legs),
        (ELLIPSOID, (0, 0, ground + 0.65 * height), (0.15 * girth, 0.25 * girth, 0.22 * height), "person-body", cloth),
        (ELLIPSOID, (0, 0, ground + 0.93 * height), (0.1, 0.09, 0.12), "person-head", (0.72, 0.55, 0.45) if rng.random() < 0.6 else (0.35, 0.22, 0.15)),
    ]


def tree(rng, size):
    trunk, radius = size * rng.uniform(1.6, 3.2), size * rng.uniform(1.0, 2.2)
    green = hue(rng, (0.2, 0.36, 0.12), 0.1) if rng.random() < 0.85 else hue(rng, (0.5, 0.33, 0.1), 0.1)
    solids = [(CYLINDER, (0, 0, trunk / 2 + 0.3), (rng.uniform(0.08, 0.22) * size,) * 2 + (trunk / 2 + 0.4,), "trunk", hue(rng, (0.32, 0.24, 0.17), 0.06))]
    for _ in range(rng.integers(1, 4)):
        offset = rng.normal(0, 0.35 * radius, 3)
        solids.append((ELLIPSOID, (offset[0], offset[1], trunk + radius * 0.8 + offset[2]), radius * rng.uniform(0.6, 1.1, 3), "crown", green))
    return solids


def pole(rng):
    height = rng.uniform(2.2, 6.5)
    grey = hue(rng, (0.5, 0.5, 0.52), 0.06)
    solids = [(CYLINDER, (0, 0, height / 2), (0.06, 0.06, height / 2), "pole", grey)]
    if height < 4 and rng.random() < 0.8:
        shade = np.array(((0.8, 0.1, 0.1), (0.1, 0.25, 0.7), (0.9, 0.8, 0.1), (0.9, 0.9, 0.9))[rng.integers(4)])
        solids.append((BOX, (0.05, 0, height - 0.3), (0.03, 0.33, 0.33), "sign", shade))
    elif rng.random() < 0.5:
        solids.append((BOX, (0, 0, height), (0.15, 0.9, 0.06), "pole", grey))
    return solids
