import numpy as np
import pytest
import torch

from tttkd_ros.methods import METHODS
from tttkd_ros.paths import STUDENT, shipped_path
from tttkd_ros.segmenter.checkpoint import load_student
from tttkd_ros.segmenter.weights import Weights


class Teacher:
    """As wide as the one that ships."""

    dim, grid, name = 192, (10, 28), "stand-in"

    def __call__(self, images):
        return torch.zeros(len(images), *self.grid, self.dim)


@pytest.fixture(scope="module")
def shipped():
    return load_student(shipped_path(STUDENT))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.build])
def test_every_method_is_built_from_the_shipped_models_and_fits_its_predictor(shipped, name):
    method = METHODS[name]
    adapter = method.build(shipped, Teacher() if method.uses_images else None, 0)
    predictor = method.predictor(shipped)
    assert adapter.weights().fit(Weights.copied(0, predictor.backbone).tensors)
    assert predictor.logits(predictor(torch.tensor(np.eye(3, dtype=np.float32)))).shape == (3, 10)
    adapter.close()
