import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tttkd_ros.geometry.transforms import apply, inverse, rotation_matrix, transform, validated


@pytest.fixture
def pose():
    generator = np.random.default_rng(3)
    return transform(generator.normal(size=3), generator.normal(size=4))


@pytest.mark.parametrize("seed", range(2))
def test_rotation_matrix_equals_scipys(seed):
    quaternion = np.random.default_rng(seed).normal(size=4)
    np.testing.assert_allclose(rotation_matrix(quaternion), Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)


def test_quaternion_is_normalised():
    np.testing.assert_allclose(rotation_matrix((0.2, -0.4, 0.1, 2.0)), rotation_matrix((0.02, -0.04, 0.01, 0.2)))


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


def test_arrays_and_tensors_are_transformed_alike(pose):
    points = np.random.default_rng(0).normal(size=(50, 3))
    expected = (np.column_stack((points, np.ones(50))) @ pose.T)[:, :3]
    np.testing.assert_allclose(apply(pose, points), expected, atol=1e-12)
    np.testing.assert_allclose(apply(pose, torch.from_numpy(points)), expected, atol=1e-12)


def test_points_keep_their_type(pose):
    assert apply(pose, np.zeros((2, 3), np.float32)).dtype == np.float32
    assert apply(pose, torch.zeros(2, 3)).dtype == torch.float32


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
