"""What stands and moves in a street, each as the solids that it is made of, drawn at random.

An object is a list of (kind, centre xyz, half xyz, part, colour) in its own frame, metres, x ahead.
"""

from __future__ import annotations

import numpy as np

from tttkd_ros.simulation.raycast import BOX, CYLINDER, ELLIPSOID
from tttkd_ros.simulation.street import KERB_HEIGHT

_SIDES = (-1, 1)


def hue(rng, mean, spread):
    """A colour about `mean`: brightness varies most, hue less."""
    return np.clip(np.array(mean) * rng.uniform(0.8, 1.2) + rng.normal(0, spread / 2, 3), 0.03, 0.97)


def _paint(rng):
    grey = rng.random() < 0.55
    return (
        np.full(3, rng.choice((0.08, 0.3, 0.55, 0.85))) + rng.normal(0, 0.03, 3) if grey else rng.uniform(0.05, 0.8, 3)
    )


def _wheels(length, width, radius, part):
    return [
        (
            ELLIPSOID,
            (x * length * 0.32, y * (width / 2 - 0.08), radius),
            (radius, 0.14, radius),
            part,
            (0.06, 0.06, 0.07),
        )
        for x in (-1, 1)
        for y in _SIDES
    ]


def car(rng, size):
    length, width, height = size * rng.normal((4.3, 1.8, 1.5), (0.35, 0.07, 0.12))
    colour, cabin = _paint(rng), rng.uniform(0.45, 0.6)
    body = height * 0.56
    return [
        (BOX, (0, 0, 0.22 + (body - 0.22) / 2), (length / 2, width / 2, (body - 0.22) / 2), "car-body", colour),
        (
            BOX,
            (-length * rng.uniform(0.02, 0.1), 0, (body + height) / 2),
            (length * cabin / 2, width * 0.43, (height - body) / 2),
            "car-window",
            (0.12, 0.14, 0.17),
        ),
        (BOX, (-length * 0.06, 0, height), (length * cabin * 0.42, width * 0.4, 0.04), "car-body", colour),
        *_wheels(length, width, 0.31, "car-wheel"),
    ]


def truck(rng, size):
    length, width, height = size * rng.normal((7.0, 2.3, 3.0), (1.0, 0.1, 0.3))
    cab = 1.9
    return [
        (
            BOX,
            (-cab / 2, 0, (height + 0.7) / 2),
            ((length - cab) / 2, width / 2, (height - 0.7) / 2),
            "truck-cargo",
            _paint(rng),
        ),
        (
            BOX,
            (length / 2 - cab / 2 + 0.1, 0, 0.45 + height * 0.35),
            (cab / 2 - 0.1, width * 0.46, height * 0.35),
            "truck-cab",
            _paint(rng),
        ),
        *_wheels(length, width, 0.48, "truck-wheel"),
    ]


def bike(rng, ridden):
    colour, radius = _paint(rng), rng.uniform(0.32, 0.36)
    solids = [
        (ELLIPSOID, (x, 0, radius), (radius, 0.04, radius), "bike-frame", (0.1, 0.1, 0.1)) for x in (-0.52, 0.52)
    ] + [
        (BOX, (0, 0, 0.62), (0.5, 0.05, 0.18), "bike-frame", colour),
        (BOX, (0.45, 0, 1.0), (0.05, 0.28, 0.06), "bike-frame", colour),
    ]
    if ridden:
        cloth = rng.uniform(0.05, 0.9, 3)
        solids += [
            (ELLIPSOID, (0.05, 0, 1.25), (0.24, 0.22, 0.38), "rider", cloth),
            (ELLIPSOID, (0.18, 0, 1.72), (0.12, 0.1, 0.13), "rider", (0.7, 0.55, 0.45)),
            (CYLINDER, (0, 0.1, 0.7), (0.1, 0.08, 0.4), "rider", cloth * 0.6),
            (CYLINDER, (0, -0.1, 0.7), (0.1, 0.08, 0.4), "rider", cloth * 0.6),
        ]
    return solids


def person(rng):
    height, girth = rng.normal(1.7, 0.12), rng.uniform(0.85, 1.25)
    ground, cloth, legs = KERB_HEIGHT, rng.uniform(0.05, 0.9, 3), rng.uniform(0.05, 0.5, 3)
    stride = rng.uniform(0, 0.18)
    return [
        (CYLINDER, (stride, 0.1, ground + 0.24 * height), (0.08, 0.08, 0.24 * height), "person-body", legs),
        (CYLINDER, (-stride, -0.1, ground + 0.24 * height), (0.08, 0.08, 0.24 * height), "person-body", legs),
        (ELLIPSOID, (0, 0, ground + 0.65 * height), (0.15 * girth, 0.25 * girth, 0.22 * height), "person-body", cloth),
        (
            ELLIPSOID,
            (0, 0, ground + 0.93 * height),
            (0.1, 0.09, 0.12),
            "person-head",
            (0.72, 0.55, 0.45) if rng.random() < 0.6 else (0.35, 0.22, 0.15),
        ),
    ]


def tree(rng, size):
    trunk, radius = size * rng.uniform(1.6, 3.2), size * rng.uniform(1.0, 2.2)
    green = hue(rng, (0.2, 0.36, 0.12), 0.1) if rng.random() < 0.85 else hue(rng, (0.5, 0.33, 0.1), 0.1)
    solids = [
        (
            CYLINDER,
            (0, 0, trunk / 2 + 0.3),
            (rng.uniform(0.08, 0.22) * size,) * 2 + (trunk / 2 + 0.4,),
            "trunk",
            hue(rng, (0.32, 0.24, 0.17), 0.06),
        )
    ]
    for _ in range(rng.integers(1, 4)):
        offset = rng.normal(0, 0.35 * radius, 3)
        solids.append(
            (
                ELLIPSOID,
                (offset[0], offset[1], trunk + radius * 0.8 + offset[2]),
                radius * rng.uniform(0.6, 1.1, 3),
                "crown",
                green,
            )
        )
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
