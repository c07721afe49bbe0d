import math

import numpy as np
import pytest
import torch

from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.projection import Projection, patch_index, project

# Ahead is x, up is z in the LiDAR's frame; the camera looks ahead from the same place.
AHEAD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
CAMERA = CameraModel(1242, 375, 721.5, 721.5, 609.6, 172.9)


def scan(surface, rings=64, span=(-24.8, 2.0), step=0.17, above=0.0):
    """Returns (M, 3) of a spinning LiDAR `above` metres over the camera. surface: directions, origin -> ranges."""
    elevation = np.radians(np.linspace(*span, rings))[:, None]
    azimuth = np.radians(np.arange(-45, 45, step))[None]
    direction = np.stack((np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth),
                          np.sin(elevation) + 0 * azimuth), -1).reshape(-1, 3)
    origin = np.array([0.0, 0.0, above])
    ranges = surface(direction, origin)
    hit = np.isfinite(ranges) & (ranges < 100)
    return torch.from_numpy((origin + direction * ranges[:, None])[hit]).float()


def ground(height):
    def surface(direction, origin):
        with np.errstate(divide="ignore"):
            ranges = -(height + origin[2]) / direction[:, 2]
        return np.where(ranges > 0, ranges, np.inf)
    return surface


def wall(distance, half_width=math.inf):
    def surface(direction, origin):
        ranges = (distance - origin[0]) / direction[:, 0]
        return np.where(np.abs(direction[:, 1] * ranges) < half_width, ranges, np.inf)
    return surface


@pytest.mark.parametrize("rings, span, step", [(64, (-24.8, 2), 0.17), (32, (-30, 10), 0.33), (128, (-25, 15), 0.2)])
@pytest.mark.parametrize("height", [1.2, 1.7])
def test_ground_is_visible_at_grazing_angles(rings, span, step, height):
    points = scan(ground(height), rings, span, step, above=0.3)
    seen, inside = project(points, CAMERA, AHEAD), project(points, CAMERA, AHEAD, occlusion=False)
    assert inside.depth[inside.visible].max() > 25
    assert seen.visible.sum() == inside.visible.sum()


@pytest.mark.parametrize("rings, span, step", [(64, (-24.8, 2), 0.17), (32, (-30, 10), 0.33)])
@pytest.mark.parametrize("camera", [CAMERA, CameraModel(1600, 900, 1266.0, 1266.0, 816.0, 491.0),
                                    CameraModel(392, 140, 240.0, 240.0, 196.0, 60.0)], ids=lambda c: f"{c.width} wide")
def test_wall_hides_points_behind_it(camera, rings, span, step):
    front, back = scan(wall(8.0, 2.0), rings, span, step), scan(wall(20.0), rings, span, step)
    behind = back[(back[:, 1].abs() < 20 * 1.5 / 8) & (back[:, 2].abs() < 0.3)]
    seen = project(torch.cat((front, behind)), camera, AHEAD).visible
    assert len(behind) > 20
    assert seen[: len(front)].sum() == project(front, camera, AHEAD, occlusion=False).visible.sum()
    assert not seen[len(front) :].any()


def test_points_beside_a_wall_are_visible():
    front, back = scan(wall(8.0, 2.0)), scan(wall(20.0))
    beside = back[back[:, 1].abs() > 20 * 2.2 / 8]
    seen = project(torch.cat((front, beside)), CAMERA, AHEAD).visible[len(front) :]
    assert seen.sum() == project(beside, CAMERA, AHEAD, occlusion=False).visible.sum()
    assert seen.sum() > 500


def test_uneven_surface_does_not_hide_itself():
    points = scan(wall(30.0))
    points[:, 0] += torch.rand(len(points), generator=torch.Generator().manual_seed(0)) * 0.4
    assert torch.equal(project(points, CAMERA, AHEAD).visible, project(points, CAMERA, AHEAD, occlusion=False).visible)


def test_points_that_are_not_finite_are_not_visible_and_hide_nothing():
    points = scan(ground(1.7))
    spoilt = torch.cat((torch.tensor([[math.nan, 0, 0], [math.inf, 0, 0], [5, -math.inf, 0]]), points))
    seen = project(spoilt, CAMERA, AHEAD).visible
    assert not seen[:3].any()
    assert torch.equal(seen[3:], project(points, CAMERA, AHEAD).visible)


def test_empty_cloud_is_projected():
    empty = project(torch.empty(0, 3), CAMERA, AHEAD)
    assert empty.pixels.shape == (0, 2)
    assert patch_index(empty, CAMERA, (10, 28)).shape == (0,)


def test_points_outside_the_image_have_no_depth():
    points = torch.tensor([[4.0, 0.0, 0.0], [-4.0, 0.0, 0.0]])
    depth = project(points, CAMERA, AHEAD).depth
    assert depth[0] == 4
    assert depth[1].isnan()


def test_patch_index_is_row_major_and_minus_one_if_not_visible():
    pixels = torch.tensor([[0.0, 0.0], [13.99, 13.99], [14.0, 13.99], [391.99, 139.99], [391.9999999, 139.9999999],
                           [200.0, 70.0], [math.nan, math.nan]])
    visible = torch.tensor([True] * 5 + [False, False])
    camera = CameraModel(392, 140, 200.0, 200.0, 196.0, 70.0)
    index = patch_index(Projection(pixels, torch.ones(7), visible), camera, (10, 28))
    assert index.tolist() == [0, 0, 1, 279, 279, -1, -1]


def test_patches_cover_the_whole_image():
    points = scan(ground(1.7))
    projection = project(points, CAMERA, AHEAD)
    index = patch_index(projection, CAMERA, (10, 28))[projection.visible]
    u, v = projection.pixels[projection.visible].T.double()
    assert torch.equal(index, (v / 375 * 10).floor().long() * 28 + (u / 1242 * 28).floor().long())
    assert index.unique().numel() > 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_projection_on_gpu_equals_cpu():
    points = torch.cat((scan(wall(8.0, 2.0)), scan(wall(20.0)), scan(ground(1.7))))
    assert (project(points.cuda(), CAMERA, AHEAD).visible.cpu() != project(points, CAMERA, AHEAD).visible).sum() < 5
