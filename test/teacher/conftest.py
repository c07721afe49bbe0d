import numpy as np
import pytest
import torch
from tiny_teacher import build_tiny_teacher, randomise, save_tiny_teacher

from tttkd_ros.teacher.features import PatchFeatures

REGISTERS = "vit_small_patch14_reg4_dinov2"
TINY = dict(embed_dim=32, depth=2, img_size=56)


def build(**changes):
    torch.manual_seed(0)
    return randomise(build_tiny_teacher(**TINY | changes))


@pytest.fixture(scope="session")
def build_model():
    """`build_model(**changes)`: a tiny DINOv2 with random weights."""
    return build


@pytest.fixture(scope="session", params=[{}, {"architecture": REGISTERS}], ids=["plain", "registers"])
def model(request):
    return build(**request.param)


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """The model in the layout of timm's hub."""
    return save_tiny_teacher(tmp_path_factory.mktemp("teachers") / "tiny", model)


@pytest.fixture(scope="session")
def features():
    return PatchFeatures(build(), (70, 140))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8)
