"""From ray hits to a colour image: ground and object textures, sun and sky, haze and a camera's noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tttkd_ros.simulation.objects import hue
from tttkd_ros.simulation.parts import PART, ROUGHNESS
from tttkd_ros.simulation.raycast import BOX, CYLINDER, Primitives


@dataclass(frozen=True, eq=False)
class Look:
    """How one drive looks: light, sky, ground colours and the camera's exposure."""

    sun: np.ndarray  # (3,) unit vector towards the sun
    light: np.ndarray  # (3,) colour of the sun
    ambient: np.ndarray
    sky: np.ndarray  # (2, 3) horizon, zenith
    ground: np.ndarray  # (P, 3) colour of each part that is ground
    texture: np.ndarray  # (256, 256) smooth noise in -1..1
    haze: float  # metres
    gamma: float
    grain: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Look:
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 1.3)
        sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
        warmth = np.array([1.0, 0.97, 0.92]) + rng.normal(0, 0.03, 3)
        overcast = rng.random()
        zenith = np.array([0.35, 0.55, 0.9]) * (1 - overcast) + np.array([0.75, 0.77, 0.8]) * overcast
        ground = np.full((len(PART), 3), 0.5)
        asphalt = rng.uniform(0.2, 0.34) * (np.array([0.97, 1.0, 1.03]) + rng.normal(0, 0.02, 3))
        ground[PART["road"]] = asphalt
        ground[PART["lane-marking"]] = asphalt + rng.uniform(0.35, 0.5)
        ground[PART["parking"]] = hue(rng, (0.52, 0.30, 0.26), 0.04)
        ground[PART["sidewalk"]] = hue(rng, (0.72, 0.67, 0.56), 0.04)
        ground[PART["kerb"]] = hue(rng, (0.80, 0.80, 0.78), 0.03)
        ground[PART["grass"]] = hue(rng, (0.28, 0.45, 0.12), 0.05)
        return cls(
            sun,
            warmth * rng.uniform(0.5, 0.9),
            np.full(3, rng.uniform(0.45, 0.6)),
            np.stack((zenith * 0.4 + 0.55, zenith)),
            ground,
            _noise(rng),
            haze=rng.uniform(150, 400),
            gamma=rng.uniform(0.85, 1.15),
            grain=rng.uniform(0.005, 0.02),
        )


def _noise(rng) -> np.ndarray:
    """(256, 256) periodic noise of several octaves in about -1..1."""
    octaves = np.zeros((256, 256))
    for scale in (8, 16, 32, 64, 128, 256):
        coarse = np.fft.rfft2(rng.normal(size=(256, 256)))
        frequency = np.hypot(np.fft.fftfreq(256)[:, None] * 256, np.fft.rfftfreq(256)[None] * 256)
        band = np.fft.irfft2(coarse * np.exp(-(((frequency - scale) / (scale / 2)) ** 2)), (256, 256))
        octaves += band / band.std() / np.sqrt(scale)
    return (octaves / np.abs(octaves).max()).astype(np.float32)


def shade(
    look: Look,
    part: np.ndarray,
    points: np.ndarray,
    distance: np.ndarray,
    directions: np.ndarray,
    index: np.ndarray,
    solids: Primitives,
    rng: np.random.Generator,
) -> np.ndarray:
    """(K, 3) uint8 colours of K pixels.

    part: (K,). points: (K, 3) world hits (anything for sky). distance: (K,) metres. directions: (K, 3) world unit rays.
    index: (K,) solid of each hit, negative for ground and sky.
    """
    albedo = look.ground[part]
    normal = np.zeros_like(points)
    normal[:, 2] = 1
    surface = np.stack((points[:, 0], points[:, 1]), 1)  # texture coordinates, metres
    on = index >= 0
    if on.any():
        owner = index[on]
        local = solids.local(owner, points[on])
        metres = local * solids.half[owner]
        normal[on], along = _normals(solids, owner, local)
        albedo[on] = solids.colour[owner]
        surface[on] = (
            np.stack((np.where(along == 0, metres[:, 1], metres[:, 0]), metres[:, 2]), 1)
            + 17.0 * solids.pattern[owner, None]
        )
    glass = part == PART["window"]
    albedo[glass] = 0.25 * albedo[glass] + 0.08
    albedo = albedo * _texture(look, part, surface, points)[:, None]
    lit = look.ambient + look.light * np.clip(normal @ look.sun, 0, None)[:, None]
    colour = albedo * lit
    colour += (np.exp(-distance / look.haze) - 1)[:, None] * (colour - look.sky[0])
    above = part == PART["sky"]
    if above.any():
        rise = np.clip(directions[above, 2], 0, 1)[:, None] ** 0.6
        cloud = _lookup(look.texture, directions[above, :2] / np.maximum(directions[above, 2:], 0.05) * 0.3)[:, None]
        colour[above] = look.sky[0] * (1 - rise) + look.sky[1] * rise + 0.12 * cloud
    colour = np.clip(colour, 0, 1) ** look.gamma + rng.normal(0, look.grain, colour.shape)
    return (np.clip(colour, 0, 1) * 255).astype(np.uint8)


def _normals(solids: Primitives, owner: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World normals (K, 3), and the local axis that each hit face looks along."""
    along = np.abs(local).argmax(1)
    flat = np.zeros_like(local)
    flat[np.arange(len(local)), along] = np.sign(local[np.arange(len(local)), along])
    curved = local / solids.half[owner]
    curved[solids.kind[owner] == CYLINDER, 2] = 0
    normal = np.where((solids.kind[owner] == BOX)[:, None], flat, curved)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    cos, sin = np.cos(solids.yaw[owner]), np.sin(solids.yaw[owner])
    return np.stack(
        (cos * normal[:, 0] - sin * normal[:, 1], sin * normal[:, 0] + cos * normal[:, 1], normal[:, 2]), 1
    ), along


def _lookup(texture: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Nearest texel at coordinates in metres, 16 texels to the metre."""
    cell = (surface * 16).astype(np.int64) & 255
    return texture[cell[:, 0], cell[:, 1]]


def _texture(look: Look, part: np.ndarray, surface: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(K,) brightness factor: noise as rough as the part, and the regular patterns of slabs, cobbles, panels and
    bars.
    """
    factor = (
        1
        + 2 * ROUGHNESS[part] * _lookup(look.texture, surface)
        + ROUGHNESS[part] * _lookup(look.texture, surface * 0.2)
    )
    slab = part == PART["sidewalk"]
    factor[slab] *= np.where((np.mod(points[slab, :2], 0.8) < 0.06).any(1), 0.75, 1.0)
    cobble = part == PART["parking"]
    factor[cobble] *= np.where((np.mod(points[cobble, :2], 0.3) < 0.05).any(1), 0.7, 1.0)
    bars = part == PART["fence"]
    factor[bars] *= np.where(np.mod(surface[bars, 0], 0.25) < 0.08, 0.55, 1.0)
    panels = part == PART["truck-cargo"]
    factor[panels] *= np.where(np.mod(surface[panels, 0], 1.1) < 0.06, 0.8, 1.0)
    return np.clip(factor, 0.1, 2.0)
