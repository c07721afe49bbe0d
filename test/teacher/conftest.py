import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from tttkd_ros.teacher.features import PatchFeatures

TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14)


def build(registers=False, **changes):
    """Build a tiny DINOv2 with random weights, in which position, class and register tokens matter."""
    torch.manual_seed(0)
    sizes = TINY | changes
    model = (Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes)) if registers
             else Dinov2Model(Dinov2Config(**sizes)))
    for name, parameter in model.named_parameters():
        if "token" in name or "position" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


@pytest.fixture(scope="session")
def build_model():
    return build


@pytest.fixture(scope="session", params=[False, True], ids=["plain", "registers"])
def model(request):
    return build(request.param)


@pytest.fixture(scope="session")
def folder(model, tmp_path_factory):
    """The model in Hugging Face's layout."""
    path = tmp_path_factory.mktemp("teachers") / "tiny"
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def features():
    return PatchFeatures(build(), (70, 140))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (90, 200, 3), dtype=np.uint8)
