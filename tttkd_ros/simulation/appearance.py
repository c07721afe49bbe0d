"""Colour the hits of a camera's rays: textures, sun and sky, haze and noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tttkd_ros.simulation.objects import draw_colour
from tttkd_ros.simulation.palette import Palette
from tttkd_ros.simulation.parts import PART, ROUGHNESS
from tttkd_ros.simulation.raycast import BOX, CYLINDER, Hits, Solids


@dataclass(frozen=True, eq=False)
class Appearance:
    """Light, sky, ground colours and camera settings of one drive."""

    sun: np.ndarray  # (3,) unit vector towards the sun
    light: np.ndarray  # (3,) colour of the sun
    ambient: np.ndarray  # (3,)
    sky: np.ndarray  # (2, 3) horizon, zenith
    ground: np.ndarray  # (P, 3) colour of each part that is ground
    texture: np.ndarray  # (256, 256) smooth noise in -1..1
    haze: float  # metres
    gamma: float
    grain: float
    palette: Palette

    @classmethod
    def draw(cls, palette: Palette, generator: np.random.Generator) -> Appearance:
        azimuth, elevation = generator.uniform(0, 2 * np.pi), generator.uniform(*palette.sun_elevation)
        sun = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
        warmth = np.array(palette.sun) + generator.normal(0, 0.03, 3)
        overcast = generator.uniform(*palette.overcast)
        zenith = np.array([0.35, 0.55, 0.9]) * (1 - overcast) + np.array([0.75, 0.77, 0.8]) * overcast
        ground = np.full((len(PART), 3), 0.5)
        ground[PART["road"]] = draw_colour(generator, palette.asphalt, 0.01)
        ground[PART["lane-marking"]] = ground[PART["road"]] + generator.uniform(*palette.markings)
        ground[PART["parking"]] = draw_colour(generator, palette.parking, 0.04)
        ground[PART["sidewalk"]] = draw_colour(generator, palette.sidewalk, 0.04)
        ground[PART["kerb"]] = draw_colour(generator, palette.kerb, 0.03)
        ground[PART["grass"]] = draw_colour(generator, palette.grass, 0.05)
        light = warmth * generator.uniform(*palette.sun_strength)
        ambient = np.full(3, generator.uniform(*palette.ambient))
        sky, texture = np.stack((zenith * 0.4 + 0.55, zenith)), _noise(generator)
        haze, gamma, grain = (generator.uniform(*span) for span in (palette.haze, palette.gamma, palette.grain))
        return cls(sun, light, ambient, sky, ground, texture, haze, gamma, grain, palette)


def _noise(generator) -> np.ndarray:
    """(256, 256) periodic noise of several octaves in -1..1."""
    octaves = np.zeros((256, 256))
    for scale in (8, 16, 32, 64, 128, 256):
        coarse = np.fft.rfft2(generator.normal(size=(256, 256)))
        frequency = np.hypot(np.fft.fftfreq(256)[:, None] * 256, np.fft.rfftfreq(256)[None] * 256)
        band = np.fft.irfft2(coarse * np.exp(-(((frequency - scale) / (scale / 2)) ** 2)), (256, 256))
        octaves += band / band.std() / np.sqrt(scale)
    return (octaves / np.abs(octaves).max()).astype(np.float32)


def shade(appearance: Appearance, hits: Hits, solids: Solids, generator: np.random.Generator) -> np.ndarray:
    """Colour the hits of a camera's rays. Returns (H, W, 3) uint8 RGB with the noise of the camera."""
    part, index, points = hits.part.ravel(), hits.index.ravel(), hits.points.reshape(-1, 3)
    length = np.linalg.norm(hits.directions, axis=2)
    distance = (hits.distance * length).ravel()
    directions = (hits.directions / length[..., None]).reshape(-1, 3)
    albedo = appearance.ground[part]
    normal = np.zeros_like(points)
    normal[:, 2] = 1
    texture_place = points[:, :2].copy()  # metres on the surface
    on_solid = index >= 0
    if on_solid.any():
        owner = index[on_solid]
        local = solids.local(owner, points[on_solid])
        metres = local * solids.half[owner]
        normal[on_solid], axis = _normals(solids, owner, local)
        albedo[on_solid] = solids.colour[owner]
        on_surface = np.stack((np.where(axis == 0, metres[:, 1], metres[:, 0]), metres[:, 2]), 1)
        texture_place[on_solid] = on_surface + 17.0 * solids.pattern[owner, None]
    glass = part == PART["window"]
    albedo[glass] = 0.25 * albedo[glass] + 0.08
    albedo = albedo * _texture(appearance, part, texture_place, points)[:, None]
    light = appearance.ambient + appearance.light * np.clip(normal @ appearance.sun, 0, None)[:, None]
    colour = albedo * light
    colour += (np.exp(-distance / appearance.haze) - 1)[:, None] * (colour - appearance.sky[0])
    sky = part == PART["sky"]
    if sky.any():
        rise = np.clip(directions[sky, 2], 0, 1)[:, None] ** 0.6
        cloud_place = directions[sky, :2] / np.maximum(directions[sky, 2:], 0.05) * 0.3
        cloud = _lookup(appearance.texture, cloud_place)[:, None]
        colour[sky] = appearance.sky[0] * (1 - rise) + appearance.sky[1] * rise + 0.12 * cloud
    colour = _respond(appearance, colour.reshape(*hits.part.shape, 3))
    colour += generator.normal(0, appearance.grain, colour.shape)
    return (np.clip(colour, 0, 1) * 255).astype(np.uint8)


def _respond(appearance: Appearance, light: np.ndarray) -> np.ndarray:
    """Turn light (H, W, 3) into what the camera makes of it: 0..1, without noise."""
    height, width, _ = light.shape
    v, u = np.mgrid[:height, :width]
    corner = ((2 * v / height - 1) ** 2 + (2 * u / width - 1) ** 2)[..., None] / 2
    light = light * (1 - appearance.palette.vignette * corner) * appearance.palette.white_balance
    grey = light.mean(2, keepdims=True)
    return np.clip(grey + appearance.palette.saturation * (light - grey), 0, 1) ** appearance.gamma


def _normals(solids: Solids, owner: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World normals (K, 3), and the local axis (K,) that each hit face is perpendicular to."""
    axis = np.abs(local).argmax(1)
    rows = np.arange(len(local))
    of_box = np.zeros_like(local)
    of_box[rows, axis] = np.sign(local[rows, axis])
    curved = local / solids.half[owner]
    curved[solids.kind[owner] == CYLINDER, 2] = 0
    normal = np.where((solids.kind[owner] == BOX)[:, None], of_box, curved)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    cos, sin = np.cos(solids.yaw[owner]), np.sin(solids.yaw[owner])
    x, y, z = normal.T
    return np.stack((cos * x - sin * y, sin * x + cos * y, z), 1), axis


def _lookup(texture: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Nearest texel at coordinates in metres, 16 texels to the metre."""
    cell = (place * 16).astype(np.int64) & 255
    return texture[cell[:, 0], cell[:, 1]]


def _texture(appearance: Appearance, part: np.ndarray, place: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(K,) brightness factors: noise as rough as the part, and regular patterns of slabs, cobbles, bars and panels."""
    fine, coarse = _lookup(appearance.texture, place), _lookup(appearance.texture, place * 0.2)
    factor = 1 + 2 * ROUGHNESS[part] * fine + ROUGHNESS[part] * coarse
    for name, coordinates, spacing, width, dark in (
        ("sidewalk", points[:, :2], 0.8, 0.06, 0.75),
        ("parking", points[:, :2], 0.3, 0.05, 0.7),
        ("fence", place[:, :1], 0.25, 0.08, 0.55),
        ("truck-cargo", place[:, :1], 1.1, 0.06, 0.8),
    ):
        on = part == PART[name]
        factor[on] *= np.where((np.mod(coordinates[on], spacing) < width).any(1), dark, 1.0)
    return np.clip(factor, 0.1, 2.0)
