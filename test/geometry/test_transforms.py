import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tttkd_ros.geometry.transforms import apply, inverse, transform, validated


@pytest.fixture
def pose():
    generator = np.random.default_rng(3)
    return transform(generator.normal(size=3), generator.normal(size=4))


@pytest.mark.parametrize("quaternion", [(0.2, -0.4, 0.1, 2.0), (0.02, -0.04, 0.01, 0.2), (-0.5, 0.3, 0.7, 0.1)])
def test_rotation_of_a_quaternion_of_any_length_equals_scipys(quaternion):
    rotation = transform((1, 2, 3), quaternion)[:3, :3]
    np.testing.assert_allclose(rotation, Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("quaternion", [(0, 0, 0, 0), (0, 0, 0, float("nan")), (0, 0, 1)])
def test_invalid_quaternion_is_refused(quaternion):
    with pytest.raises(ValueError, match="is no rotation"):
        transform((0, 0, 0), quaternion)


@pytest.mark.parametrize("translation", [(0, 0), (0, 0, float("inf")), (0, 0, 1.7e308)])
def test_invalid_translation_is_refused(translation):
    with pytest.raises(ValueError, match="translation"):
        transform(translation, (0, 0, 0, 1))


def test_inverse_times_transform_is_identity(pose):
    np.testing.assert_allclose(inverse(pose) @ pose, np.eye(4), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_are_transformed_in_their_type(pose, dtype):
    points = np.random.default_rng(0).normal(size=(50, 3))
    expected = (np.column_stack((points, np.ones(50))) @ pose.T)[:, :3]
    torch.testing.assert_close(apply(pose, torch.tensor(points, dtype=dtype)), torch.tensor(expected, dtype=dtype))


def test_rigid_transform_is_validated_unchanged(pose):
    assert validated(pose.tolist()).tolist() == pose.tolist()


@pytest.mark.parametrize("spoil, message", [
    (lambda m: m * 1.01, "last row"),
    (lambda m: m.T, "transposed"),
    (lambda m: m @ np.diag([1, 1, 1.01, 1]), "orthonormal"),
    (lambda m: m @ np.diag([1, 1, -1, 1]), "mirrors"),
    (lambda m: m[:3], "shape"),
    (lambda m: np.full((4, 4), np.nan), "finite"),
])
def test_transform_that_is_not_rigid_is_refused(pose, spoil, message):
    with pytest.raises(ValueError, match=message):
        validated(spoil(pose))
