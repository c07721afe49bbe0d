import numpy as np
import pytest
import torch

from tttkd_ros.features import estimate_normals, missing, select
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.points import Points
from tttkd_ros.segmenter.student import Student, StudentConfig
from tttkd_ros.segmenter.voxels import rotation

RANDOM = np.random.default_rng(0)


def plane(normal, count=200):
    """Points of a plane 5 m from the sensor."""
    normal = np.array(normal) / np.linalg.norm(normal)
    points = RANDOM.uniform(-2, 2, (count, 3))
    return (points - (points @ normal)[:, None] * normal + 5 * normal).astype(np.float32), normal


@pytest.mark.parametrize("normal", [(0, 0, -1), (1, 0, 0), (1, 2, 3)])
def test_a_normal_is_that_of_the_plane_and_faces_the_sensor(normal):
    points, normal = plane(normal)
    np.testing.assert_allclose(estimate_normals(points), np.tile(-normal, (len(points), 1)), atol=1e-3)


def test_points_that_are_not_finite_have_no_normal_and_disturb_none():
    points, normal = plane((0, 0, 1))
    points[3] = np.nan
    normals = estimate_normals(points)
    assert not normals[3].any()
    np.testing.assert_allclose(np.delete(normals, 3, 0), np.tile(-normal, (len(points) - 1, 1)), atol=1e-3)
    assert not estimate_normals(points[:2]).any()


def test_only_what_is_asked_for_is_selected_and_the_position_needs_no_sensor():
    points, _ = plane((0, 0, 1))
    values = {"intensity": np.arange(len(points)), "rgb": np.ones((len(points), 3))}
    chosen = select(("position", "intensity", "normal"), points, values)
    assert {name: each.shape for name, each in chosen.items()} == {"intensity": (200, 1), "normal": (200, 3)}
    assert missing(["position", "normal", "intensity"], values) == ""


def test_a_missing_feature_and_one_of_another_width_are_named():
    points, _ = plane((0, 0, 1))
    with pytest.raises(ValueError, match=r"takes rgb of every point, but the cloud has only the features \(none\)"):
        select(("rgb",), points, {})
    with pytest.raises(ValueError, match="rgb has 1 numbers per point, expected 3"):
        select(("rgb",), points, {"rgb": np.ones(len(points))})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_counts_as_0_and_spoils_no_other_point(bad):
    config = StudentConfig(voxel_size=0.5, options=dict(channels=4, levels=2), inputs={"normal": 1.0})
    points, normals = RANDOM.uniform(-5, 5, (100, 3)).astype(np.float32), np.ones((100, 3), np.float32)
    normals[7] = bad
    student = Student(config).eval()
    cloud = student.points(points, {"normal": normals})
    assert not cloud.features["normal"][7].any() and cloud.features["normal"].sum() == 99 * 3
    assert student(cloud).isfinite().all()


def test_normals_turn_with_the_points_and_colours_do_not():
    normals = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    points = Points(torch.randn(50, 3), {"normal": normals, "rgb": torch.rand(50, 3)})
    turned = points.transformed(rotation(1.0))
    torch.testing.assert_close((turned.xyz * turned.features["normal"]).sum(1), (points.xyz * normals).sum(1))
    assert torch.equal(turned.features["rgb"], points.features["rgb"])


def test_a_normal_stays_perpendicular_when_its_surface_is_stretched():
    tangent, normal = torch.tensor([[1.0, 1, 0]]), torch.tensor([[1.0, -1, 0]]) / 2**0.5
    moved = Points(tangent, {"normal": normal}).transformed(torch.diag(torch.tensor([3.0, 1, 1])))
    assert (moved.xyz * moved.features["normal"]).sum().abs() < 1e-6
    assert moved.features["normal"].norm() == pytest.approx(1)


def test_a_frame_levels_directions_alone():
    level = np.diag([1.0, -1.0, -1.0])
    frame = Frame(0, np.ones((2, 3), np.float32), features={"normal": np.ones((2, 3)), "rgb": np.ones((2, 3))},
                  level=level)
    assert frame.upright_features["normal"].tolist() == [[1, -1, -1]] * 2
    assert frame.upright_features["rgb"].tolist() == [[1, 1, 1]] * 2


def test_a_student_scales_and_uses_the_features_that_it_takes():
    torch.manual_seed(0)
    config = StudentConfig(voxel_size=0.5, options=dict(channels=4, levels=2), inputs={"intensity": 1 / 255})
    student = Student(config).eval()
    points = RANDOM.uniform(-5, 5, (100, 3)).astype(np.float32)
    dim, bright = (student(student.points(points, {"intensity": np.full(100, value)})) for value in (0, 255))
    unit = Student(StudentConfig(voxel_size=0.5, options=dict(channels=4, levels=2))).eval()
    unit.load_state_dict(student.state_dict())
    assert not torch.allclose(dim, bright)
    torch.testing.assert_close(bright, unit(torch.tensor(points)))  # an intensity of 255 is the constant 1
    with pytest.raises(ValueError, match="the student takes intensity"):
        student.points(points)
