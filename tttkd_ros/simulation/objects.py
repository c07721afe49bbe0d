"""Draw the objects of a street at random.

An object is a list of solids: (kind, centre xyz, half size xyz, part, colour), metres, in its own frame, x ahead.
"""

from __future__ import annotations

import numpy as np

from tttkd_ros.simulation.palette import Palette
from tttkd_ros.simulation.raycast import BOX, CYLINDER, ELLIPSOID
from tttkd_ros.simulation.street import KERB_HEIGHT

_SKIN = ((0.72, 0.55, 0.45), (0.35, 0.22, 0.15))
_SIGN_COLOURS = np.array(((0.8, 0.1, 0.1), (0.1, 0.25, 0.7), (0.9, 0.8, 0.1), (0.9, 0.9, 0.9)))


def draw_colour(generator, mean, spread):
    """Draw a colour about `mean`. Brightness varies more than hue."""
    return np.clip(np.array(mean) * generator.uniform(0.8, 1.2) + generator.normal(0, spread / 2, 3), 0.03, 0.97)


def _paint(generator):
    if generator.random() < 0.55:
        return np.full(3, generator.choice((0.08, 0.3, 0.55, 0.85))) + generator.normal(0, 0.03, 3)  # grey
    return generator.uniform(0.05, 0.8, 3)


def _wheels(length, width, radius, part):
    half, colour = (radius, 0.14, radius), (0.06, 0.06, 0.07)
    return [(ELLIPSOID, (x * length * 0.32, y * (width / 2 - 0.08), radius), half, part, colour)
            for x in (-1, 1) for y in (-1, 1)]


def car(generator, size):
    length, width, height = size * generator.normal((4.3, 1.8, 1.5), (0.35, 0.07, 0.12))
    colour, cabin = _paint(generator), generator.uniform(0.45, 0.6)
    body, cabin_x = height * 0.56, -length * generator.uniform(0.02, 0.1)
    cabin_half = (length * cabin / 2, width * 0.43, (height - body) / 2)
    return [
        (BOX, (0, 0, 0.22 + (body - 0.22) / 2), (length / 2, width / 2, (body - 0.22) / 2), "car-body", colour),
        (BOX, (cabin_x, 0, (body + height) / 2), cabin_half, "car-window", (0.12, 0.14, 0.17)),
        (BOX, (-length * 0.06, 0, height), (length * cabin * 0.42, width * 0.4, 0.04), "car-body", colour),
        *_wheels(length, width, 0.31, "car-wheel"),
    ]


def truck(generator, size):
    length, width, height = size * generator.normal((7.0, 2.3, 3.0), (1.0, 0.1, 0.3))
    cab = 1.9
    cargo_half = ((length - cab) / 2, width / 2, (height - 0.7) / 2)
    cab_centre = (length / 2 - cab / 2 + 0.1, 0, 0.45 + height * 0.35)
    return [
        (BOX, (-cab / 2, 0, (height + 0.7) / 2), cargo_half, "truck-cargo", _paint(generator)),
        (BOX, cab_centre, (cab / 2 - 0.1, width * 0.46, height * 0.35), "truck-cab", _paint(generator)),
        *_wheels(length, width, 0.48, "truck-wheel"),
    ]


def bike(generator, ridden):
    colour, radius = _paint(generator), generator.uniform(0.32, 0.36)
    solids = [
        *((ELLIPSOID, (x, 0, radius), (radius, 0.04, radius), "bike-frame", (0.1, 0.1, 0.1)) for x in (-0.52, 0.52)),
        (BOX, (0, 0, 0.62), (0.5, 0.05, 0.18), "bike-frame", colour),
        (BOX, (0.45, 0, 1.0), (0.05, 0.28, 0.06), "bike-frame", colour),
    ]
    if ridden:
        cloth = generator.uniform(0.05, 0.9, 3)
        solids += [
            (ELLIPSOID, (0.05, 0, 1.25), (0.24, 0.22, 0.38), "rider", cloth),
            (ELLIPSOID, (0.18, 0, 1.72), (0.12, 0.1, 0.13), "rider", (0.7, 0.55, 0.45)),
            (CYLINDER, (0, 0.1, 0.7), (0.1, 0.08, 0.4), "rider", cloth * 0.6),
            (CYLINDER, (0, -0.1, 0.7), (0.1, 0.08, 0.4), "rider", cloth * 0.6),
        ]
    return solids


def person(generator):
    height, girth = generator.normal(1.7, 0.12), generator.uniform(0.85, 1.25)
    ground, cloth, legs = KERB_HEIGHT, generator.uniform(0.05, 0.9, 3), generator.uniform(0.05, 0.5, 3)
    stride = generator.uniform(0, 0.18)
    leg_half = (0.08, 0.08, 0.24 * height)
    return [
        (CYLINDER, (stride, 0.1, ground + 0.24 * height), leg_half, "person-body", legs),
        (CYLINDER, (-stride, -0.1, ground + 0.24 * height), leg_half, "person-body", legs),
        (ELLIPSOID, (0, 0, ground + 0.65 * height), (0.15 * girth, 0.25 * girth, 0.22 * height), "person-body", cloth),
        (ELLIPSOID, (0, 0, ground + 0.93 * height), (0.1, 0.09, 0.12), "person-head", _SKIN[generator.random() >= 0.6]),
    ]


def tree(generator, size, palette: Palette):
    trunk, radius = size * generator.uniform(1.6, 3.2), size * generator.uniform(1.0, 2.2)
    other = generator.random() < palette.other_leaves_share
    leaves = draw_colour(generator, palette.other_leaves if other else palette.leaves, 0.1)
    thickness = generator.uniform(0.08, 0.22) * size
    bark = draw_colour(generator, palette.bark, 0.06)
    solids = [(CYLINDER, (0, 0, trunk / 2 + 0.3), (thickness, thickness, trunk / 2 + 0.4), "trunk", bark)]
    for _ in range(generator.integers(1, 4)):
        x, y, z = generator.normal(0, 0.35 * radius, 3)
        half = radius * generator.uniform(0.6, 1.1, 3)
        solids.append((ELLIPSOID, (x, y, trunk + radius * 0.8 + z), half, "crown", leaves))
    return solids


def pole(generator):
    height = generator.uniform(2.2, 6.5)
    grey = draw_colour(generator, (0.5, 0.5, 0.52), 0.06)
    solids = [(CYLINDER, (0, 0, height / 2), (0.06, 0.06, height / 2), "pole", grey)]
    if height < 4 and generator.random() < 0.8:
        colour = _SIGN_COLOURS[generator.integers(4)]
        solids.append((BOX, (0.05, 0, height - 0.3), (0.03, 0.33, 0.33), "sign", colour))
    elif generator.random() < 0.5:
        solids.append((BOX, (0, 0, height), (0.15, 0.9, 0.06), "pole", grey))
    return solids


def litter_bin(generator, palette: Palette):
    colour = draw_colour(generator, palette.bins, 0.08)
    height = generator.uniform(0.4, 0.65)
    half = (generator.uniform(0.25, 0.6), generator.uniform(0.25, 0.4), height)
    return [(BOX, (0, 0, height + KERB_HEIGHT), half, "bin", colour)]


def hedge(generator, palette: Palette):
    length, height = generator.uniform(0.8, 5), generator.uniform(0.4, 1.1)
    kind = BOX if length > 2 else ELLIPSOID
    half = (length / 2, generator.uniform(0.4, 0.8), height)
    return [(kind, (0, 0, height + 0.1), half, "hedge", draw_colour(generator, palette.hedge, 0.08))]


def fence(generator, palette: Palette):
    length, height = generator.uniform(3, 9), generator.uniform(0.45, 0.9)
    colour = draw_colour(generator, palette.fences, 0.08)
    return [(BOX, (0, 0, height + KERB_HEIGHT), (length / 2, 0.04, height), "fence", colour)]
