"""Draws a street from its style: where buildings, kerbside objects, greenery and traffic are."""

from __future__ import annotations

import numpy as np

from tttkd_ros.simulation.objects import bike, car, hue, person, pole, tree, truck
from tttkd_ros.simulation.raycast import BOX, ELLIPSOID
from tttkd_ros.simulation.street import KERB_HEIGHT, Street, Style

_SIDES = (-1, 1)
_OWN_LANE_SPEED = (7.9, 8.1)  # metres per second, where the ego vehicle drives at ride.SPEED
_HEADWAY = 22.0  # metres to the next vehicle of the ego vehicle's own lane


def build(style: Style, length: float, rng: np.random.Generator, start: float) -> Street:
    """Draw a street of `length` metres.

    No traffic is ahead of or behind an ego vehicle that sets out from `start` so close as to fill its view.
    """
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
                solids.append(
                    (
                        BOX,
                        (0, 0, height + 0.5),
                        (length / 2 + 0.3, depth / 2 + 0.3, 0.5),
                        "roof",
                        hue(rng, (0.45, 0.25, 0.2), 0.1),
                    )
                )
            if rng.random() < style.balconies:
                floors, each = np.arange(3.2, height - 1, 3.0), np.arange(-length / 2 + 2, length / 2 - 2, 5.0)
                shade = hue(rng, (0.6, 0.6, 0.6), 0.15)
                solids += [
                    (BOX, (x, -side * (depth / 2 + 0.6), z), (1.2, 0.6, 0.5), "balcony", shade)
                    for z in floors
                    for x in each
                ]
            street.place(rng, middle, side * (front + depth / 2), rng.normal(0, 0.01), solids)
        s += length + style.building_gap * rng.uniform(0.2, 2.0)


def _kerbside(street, side, rng):
    style = street.style
    heading = 0.0 if side < 0 else np.pi  # right-hand traffic
    for s in _gaps(rng, style.parked_cars, street.length, least=5.2 * style.vehicle_size):
        if street.crossing(s) or not street.parking[street.block(s), int(side > 0)]:
            continue
        street.place(
            rng,
            s,
            side * (style.lane + style.parking_width / 2),
            heading + rng.normal(0, 0.04),
            car(rng, style.vehicle_size),
        )
    for s in _gaps(rng, style.parked_trucks, street.length):
        if not street.crossing(s):
            street.place(
                rng, s, side * (style.lane + style.parking_width / 2 - 0.1), heading, truck(rng, style.vehicle_size)
            )
    for s in _gaps(rng, style.poles, street.length):
        street.place(rng, s, side * (_edge(street, s, side) + 0.5), 0.0, pole(rng))
    for s in _gaps(rng, style.bins, street.length):
        colour = hue(rng, (0.12, 0.30, 0.22), 0.08)
        height = rng.uniform(0.4, 0.65)
        solids = [
            (
                BOX,
                (0, 0, height + KERB_HEIGHT),
                (rng.uniform(0.25, 0.6), rng.uniform(0.25, 0.4), height),
                "bin",
                colour,
            )
        ]
        street.place(
            rng, s, side * (_edge(street, s, side) + rng.uniform(0.6, style.sidewalk)), rng.normal(0, 0.3), solids
        )


def _greenery(street, side, rng):
    style = street.style
    for s in _gaps(rng, style.trees, street.length):
        d = _edge(street, s, side) + (
            0.7 if rng.random() < 0.4 else style.sidewalk + rng.uniform(0.3, 1.0) * style.verge
        )
        if not street.crossing(s):
            street.place(rng, s, side * d, rng.uniform(0, 6), tree(rng, style.tree_size))
    for s in _gaps(rng, style.hedges, street.length):
        length, height = rng.uniform(0.8, 5), rng.uniform(0.4, 1.1)
        kind = BOX if length > 2 else ELLIPSOID
        solids = [
            (
                kind,
                (0, 0, height + 0.1),
                (length / 2, rng.uniform(0.4, 0.8), height),
                "hedge",
                hue(rng, (0.18, 0.34, 0.12), 0.08),
            )
        ]
        if not street.crossing(s):
            street.place(
                rng,
                s,
                side * (_edge(street, s, side) + style.sidewalk + rng.uniform(0.6, 1.2)),
                rng.normal(0, 0.05),
                solids,
            )
    for s in _gaps(rng, style.fences, street.length):
        length, height = rng.uniform(3, 9), rng.uniform(0.45, 0.9)
        solids = [
            (
                BOX,
                (0, 0, height + KERB_HEIGHT),
                (length / 2, 0.04, height),
                "fence",
                hue(rng, (0.45, 0.30, 0.20), 0.08),
            )
        ]
        if not street.crossing(s):
            street.place(rng, s, side * (_edge(street, s, side) + style.sidewalk + rng.uniform(0.1, 0.4)), 0.0, solids)


def _moving(street, side, rng, start):
    style = street.style
    heading = 0.0 if side < 0 else np.pi
    for s in _gaps(rng, style.traffic, 2 * street.length, start=-street.length / 2, least=12.0):
        vehicle = truck if rng.random() < style.traffic_trucks else car
        # Traffic of the ego vehicle's own lane goes and stops as it does, roughly; the other lane's comes towards it.
        own = side < 0
        speed = rng.uniform(*_OWN_LANE_SPEED) if own else -rng.uniform(5, 11)
        if not own or abs(s - start) > _HEADWAY:
            solids = vehicle(rng, style.vehicle_size)
            street.place(rng, s, side * style.lane / 2, heading, solids, speed, follows=own)
    for s in _gaps(rng, style.people, street.length):
        d = _edge(street, s, side) + rng.uniform(0.4, style.sidewalk)
        walk = rng.choice((-1, 0, 1)) * rng.uniform(0.8, 1.6)
        street.place(rng, s, side * d, 0.0 if walk >= 0 else np.pi, person(rng), walk)
    for s in _gaps(rng, style.bikes, street.length):
        ridden = rng.random() < 0.6
        d = _edge(street, s, side) + (-0.6 if ridden else rng.uniform(0.3, 0.8))
        turn = rng.normal(0, 0.05) if ridden else rng.uniform(0, 3)
        street.place(
            rng,
            s,
            side * d,
            heading + turn,
            bike(rng, ridden),
            (rng.uniform(2, 5) if side < 0 else -rng.uniform(2, 5)) * ridden,
        )
