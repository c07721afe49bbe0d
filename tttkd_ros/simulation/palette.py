"""What a town and a camera look like: colours of surfaces, light, and the camera's response."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]  # RGB in 0..1
Range = tuple[float, float]


@dataclass(frozen=True)
class Palette:
    """Means of the colours of a town, and ranges that each drive draws its light and camera settings from.

    The defaults are those of the source world.
    """

    walls: tuple[Colour, ...] = ((0.82, 0.72, 0.58),)
    wall_spread: float = 0.14
    roofs: Colour = (0.45, 0.25, 0.2)
    balconies: Colour = (0.6, 0.6, 0.6)
    leaves: Colour = (0.2, 0.36, 0.12)
    other_leaves: Colour = (0.5, 0.33, 0.1)
    other_leaves_share: float = 0.15
    bark: Colour = (0.32, 0.24, 0.17)
    hedge: Colour = (0.18, 0.34, 0.12)
    grass: Colour = (0.28, 0.45, 0.12)
    asphalt: Colour = (0.262, 0.27, 0.278)
    markings: Range = (0.35, 0.5)  # brighter than the asphalt by this much
    parking: Colour = (0.52, 0.30, 0.26)
    sidewalk: Colour = (0.72, 0.67, 0.56)
    kerb: Colour = (0.80, 0.80, 0.78)
    bins: Colour = (0.12, 0.30, 0.22)
    fences: Colour = (0.45, 0.30, 0.20)
    sun_elevation: Range = (0.25, 1.3)  # radians
    sun: Colour = (1.0, 0.97, 0.92)
    sun_strength: Range = (0.5, 0.9)
    ambient: Range = (0.45, 0.6)
    overcast: Range = (0.0, 1.0)
    haze: Range = (150.0, 400.0)  # metres
    white_balance: Colour = (1.0, 1.0, 1.0)
    saturation: float = 1.0
    gamma: Range = (0.85, 1.15)
    grain: Range = (0.005, 0.02)
    vignette: float = 0.0  # share of the light that the image's corners lose


# Plaster and brick, dull paving, dry vegetation and a low, warm sun, through a camera with cool and pale colours.
TARGET = Palette(
    walls=((0.66, 0.66, 0.64), (0.55, 0.33, 0.26), (0.78, 0.70, 0.42)), wall_spread=0.12, roofs=(0.25, 0.24, 0.26),
    balconies=(0.42, 0.40, 0.38), leaves=(0.30, 0.36, 0.15), other_leaves=(0.42, 0.24, 0.16), other_leaves_share=0.3,
    bark=(0.26, 0.23, 0.21), hedge=(0.26, 0.36, 0.20), grass=(0.40, 0.43, 0.20), asphalt=(0.36, 0.35, 0.34),
    markings=(0.25, 0.4), parking=(0.42, 0.36, 0.34), sidewalk=(0.58, 0.57, 0.56), kerb=(0.68, 0.67, 0.66),
    bins=(0.22, 0.22, 0.25), fences=(0.36, 0.36, 0.34), sun_elevation=(0.15, 0.7), sun=(1.0, 0.90, 0.78),
    sun_strength=(0.4, 0.8), ambient=(0.4, 0.55), haze=(120.0, 300.0), white_balance=(0.94, 1.0, 1.1), saturation=0.8,
    gamma=(0.7, 0.95), grain=(0.015, 0.035), vignette=0.25,
)  # fmt: skip

# Concrete and dark brick, lush vegetation and a high sun, through a camera with warm, saturated and dark colours.
TROPICAL = Palette(
    walls=((0.74, 0.76, 0.78), (0.42, 0.26, 0.22), (0.60, 0.64, 0.62)), wall_spread=0.1, roofs=(0.5, 0.36, 0.3),
    balconies=(0.7, 0.68, 0.62), leaves=(0.12, 0.40, 0.12), other_leaves=(0.30, 0.46, 0.10), other_leaves_share=0.3,
    bark=(0.40, 0.33, 0.26), hedge=(0.14, 0.42, 0.16), grass=(0.22, 0.52, 0.14), asphalt=(0.20, 0.21, 0.22),
    markings=(0.45, 0.6), parking=(0.40, 0.26, 0.24), sidewalk=(0.64, 0.52, 0.44), kerb=(0.74, 0.74, 0.58),
    bins=(0.10, 0.26, 0.36), fences=(0.52, 0.50, 0.44), sun_elevation=(0.8, 1.45), sun=(1.0, 0.98, 0.95),
    sun_strength=(0.7, 1.0), ambient=(0.35, 0.5), overcast=(0.0, 0.6), white_balance=(1.08, 1.0, 0.9),
    saturation=1.2, gamma=(1.0, 1.3), vignette=0.1,
)  # fmt: skip


def draw_palette(generator: np.random.Generator) -> Palette:
    """Draw the look of a town from wide ranges."""

    def colour(hue: Range, saturation: Range, value: Range) -> Colour:
        return hsv_to_rgb(generator.uniform(*hue) % 1, generator.uniform(*saturation), generator.uniform(*value))

    def interval(low: float, high: float) -> Range:
        """Draw a part of low..high of at least a third."""
        width = generator.uniform(0.33, 1) * (high - low)
        start = generator.uniform(low, high - width)
        return start, start + width

    red, blue = generator.uniform(0.88, 1.14, 2)
    return Palette(
        walls=tuple(colour((-0.05, 0.2), (0.0, 0.6), (0.4, 0.9)) for _ in range(generator.integers(1, 4))),
        wall_spread=generator.uniform(0.08, 0.16), roofs=colour((-0.05, 0.1), (0.0, 0.6), (0.2, 0.6)),
        balconies=colour((0, 1), (0.0, 0.15), (0.35, 0.8)), leaves=colour((0.2, 0.38), (0.4, 0.8), (0.25, 0.5)),
        other_leaves=colour((0.0, 0.3), (0.5, 0.9), (0.3, 0.6)), other_leaves_share=generator.uniform(0, 0.4),
        bark=colour((0.03, 0.12), (0.1, 0.5), (0.2, 0.45)), hedge=colour((0.2, 0.4), (0.35, 0.75), (0.25, 0.5)),
        grass=colour((0.16, 0.36), (0.45, 0.85), (0.35, 0.6)), asphalt=colour((0, 1), (0.0, 0.1), (0.18, 0.42)),
        markings=interval(0.2, 0.6), parking=colour((-0.05, 0.12), (0.1, 0.55), (0.3, 0.6)),
        sidewalk=colour((-0.02, 0.18), (0.0, 0.4), (0.5, 0.8)), kerb=colour((0, 0.2), (0.0, 0.25), (0.6, 0.85)),
        bins=colour((0.25, 0.7), (0.0, 0.75), (0.15, 0.4)), fences=colour((0.02, 0.15), (0.0, 0.6), (0.25, 0.6)),
        sun_elevation=interval(0.15, 1.45), sun=(1.0, generator.uniform(0.88, 1.0), generator.uniform(0.75, 1.0)),
        sun_strength=interval(0.4, 1.0), ambient=interval(0.35, 0.6), overcast=interval(0.0, 1.0),
        haze=interval(120, 400), white_balance=(red, 1.0, blue), saturation=generator.uniform(0.7, 1.25),
        gamma=interval(0.7, 1.3), grain=interval(0.005, 0.04), vignette=generator.uniform(0, 0.3),
    )  # fmt: skip
