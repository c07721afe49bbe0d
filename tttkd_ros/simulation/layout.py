"""Draw a street from its style: buildings, kerbside objects, greenery and traffic."""

from __future__ import annotations

import numpy as np

from tttkd_ros.simulation import objects
from tttkd_ros.simulation.raycast import BOX
from tttkd_ros.simulation.street import Street, Style

_RIGHT, _LEFT = -1, 1
_OWN_LANE_SPEED = (7.9, 8.1)  # metres per second, about the ego vehicle's ego_motion.SPEED
_HEADWAY = 22.0  # metres to the next vehicle on the ego vehicle's lane


def build(style: Style, length: float, generator: np.random.Generator, start: float) -> Street:
    """Draw a street of `length` metres. The ego vehicle's lane has no traffic around `start`, metres."""
    crossings = np.cumsum(generator.uniform(0.6, 1.4, int(2 * length / style.block) + 2) * style.block)
    crossings = crossings[crossings < length]
    parking = generator.random((len(crossings) + 1, 2)) < style.parking_share
    amplitude, wavelength = generator.uniform(2, 7), generator.uniform(35, 60)
    street = Street(style, length, amplitude, wavelength, crossings, parking, generator.uniform(0.0, 0.2))
    for side in (_RIGHT, _LEFT):
        _add_buildings(street, side, generator)
        _add_kerbside_objects(street, side, generator)
        _add_greenery(street, side, generator)
        _add_traffic(street, side, generator, start)
    return street.freeze()


def _positions(generator, spacing, length, start=0.0, min_gap=0.0):
    """Draw positions along the road with exponential gaps of mean `spacing` and at least `min_gap`."""
    position = start
    while (position := position + min_gap + generator.exponential(spacing - min_gap)) < length:
        yield position


def _kerb(street: Street, s: float, side: int) -> float:
    return float(street.kerb_distance[street.block_index(s), int(side > 0)])


def _add_buildings(street, side, generator):
    style, s = street.style, 0.0
    while s < street.length:
        length = style.building_length * generator.uniform(0.6, 1.5)
        middle = s + length / 2
        if np.abs(middle - street.crossings).min(initial=np.inf) > length / 2 + style.lane + 2:
            height, depth = style.building_height * generator.uniform(0.6, 1.5), generator.uniform(6, 12)
            wall = style.palette.walls[generator.integers(len(style.palette.walls))]
            colour = objects.draw_colour(generator, wall, style.palette.wall_spread)
            front = style.lane + style.parking_width + style.sidewalk + style.verge * generator.uniform(0.7, 1.5)
            solids = [(BOX, (0, 0, height / 2), (length / 2, depth / 2, height / 2), "wall", colour)]
            if generator.random() < 0.6:
                colour = objects.draw_colour(generator, style.palette.roofs, 0.1)
                half = (length / 2 + 0.3, depth / 2 + 0.3, 0.5)
                solids.append((BOX, (0, 0, height + 0.5), half, "roof", colour))
            if generator.random() < style.balconies:
                colour = objects.draw_colour(generator, style.palette.balconies, 0.15)
                solids += [(BOX, (x, -side * (depth / 2 + 0.6), z), (1.2, 0.6, 0.5), "balcony", colour)
                           for z in np.arange(3.2, height - 1, 3.0)
                           for x in np.arange(-length / 2 + 2, length / 2 - 2, 5.0)]
            street.add_object(generator, middle, side * (front + depth / 2), generator.normal(0, 0.01), solids)
        s += length + style.building_gap * generator.uniform(0.2, 2.0)


def _add_kerbside_objects(street, side, generator):
    style, size = street.style, street.style.vehicle_size
    heading = 0.0 if side == _RIGHT else np.pi  # right-hand traffic
    strip = style.lane + style.parking_width / 2
    for s in _positions(generator, style.parked_cars, street.length, min_gap=5.2 * size):
        if not street.on_crossing(s) and street.parking[street.block_index(s), int(side > 0)]:
            yaw = heading + generator.normal(0, 0.04)
            street.add_object(generator, s, side * strip, yaw, objects.car(generator, size))
    for s in _positions(generator, style.parked_trucks, street.length):
        if not street.on_crossing(s):
            street.add_object(generator, s, side * (strip - 0.1), heading, objects.truck(generator, size))
    for s in _positions(generator, style.poles, street.length):
        street.add_object(generator, s, side * (_kerb(street, s, side) + 0.5), 0.0, objects.pole(generator))
    for s in _positions(generator, style.bins, street.length):
        solids = objects.litter_bin(generator, style.palette)
        d = _kerb(street, s, side) + generator.uniform(0.6, style.sidewalk)
        street.add_object(generator, s, side * d, generator.normal(0, 0.3), solids)


def _add_greenery(street, side, generator):
    style = street.style
    for s in _positions(generator, style.trees, street.length):
        at_kerb = generator.random() < 0.4
        from_kerb = 0.7 if at_kerb else style.sidewalk + generator.uniform(0.3, 1.0) * style.verge
        if not street.on_crossing(s):
            yaw = generator.uniform(0, 6)
            d = _kerb(street, s, side) + from_kerb
            street.add_object(generator, s, side * d, yaw, objects.tree(generator, style.tree_size, style.palette))
    for s in _positions(generator, style.hedges, street.length):
        solids = objects.hedge(generator, style.palette)
        if not street.on_crossing(s):
            d = _kerb(street, s, side) + style.sidewalk + generator.uniform(0.6, 1.2)
            street.add_object(generator, s, side * d, generator.normal(0, 0.05), solids)
    for s in _positions(generator, style.fences, street.length):
        solids = objects.fence(generator, style.palette)
        if not street.on_crossing(s):
            d = _kerb(street, s, side) + style.sidewalk + generator.uniform(0.1, 0.4)
            street.add_object(generator, s, side * d, 0.0, solids)


def _add_traffic(street, side, generator, start):
    style = street.style
    heading = 0.0 if side == _RIGHT else np.pi
    for s in _positions(generator, style.traffic, 2 * street.length, start=-street.length / 2, min_gap=12.0):
        vehicle = objects.truck if generator.random() < style.traffic_trucks else objects.car
        # Traffic on the ego vehicle's lane keeps its pace and stops with it. The other lane's is oncoming.
        own_lane = side == _RIGHT
        speed = generator.uniform(*_OWN_LANE_SPEED) if own_lane else -generator.uniform(5, 11)
        if not own_lane or abs(s - start) > _HEADWAY:
            solids = vehicle(generator, style.vehicle_size)
            street.add_object(generator, s, side * style.lane / 2, heading, solids, speed, follows_ego=own_lane)
    for s in _positions(generator, style.people, street.length):
        d = _kerb(street, s, side) + generator.uniform(0.4, style.sidewalk)
        speed = generator.choice((-1, 0, 1)) * generator.uniform(0.8, 1.6)
        street.add_object(generator, s, side * d, 0.0 if speed >= 0 else np.pi, objects.person(generator), speed)
    for s in _positions(generator, style.bikes, street.length):
        ridden = generator.random() < 0.6
        d = _kerb(street, s, side) + (-0.6 if ridden else generator.uniform(0.3, 0.8))
        yaw = heading + (generator.normal(0, 0.05) if ridden else generator.uniform(0, 3))
        solids = objects.bike(generator, ridden)
        speed = (generator.uniform(2, 5) if side == _RIGHT else -generator.uniform(2, 5)) * ridden
        street.add_object(generator, s, side * d, yaw, solids, speed)
