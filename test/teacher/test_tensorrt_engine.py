import pytest
import torch

from tttkd_ros.teacher.engines import agreement
from tttkd_ros.teacher.features import PatchFeatures

if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)
pytest.importorskip("torch_tensorrt", reason="torch_tensorrt is not installed")

from tttkd_ros.teacher.tensorrt_engine import TensorRtEngine, engine_key  # noqa: E402 (needs the modules above)

SIZE = (70, 140)  # 5 x 10 patches


@pytest.fixture(scope="module")
def on_gpu(build_model):
    return PatchFeatures(build_model(), SIZE).cuda()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


@pytest.mark.parametrize("precision", [torch.float16, torch.float32])
def test_tensorrt_agrees_with_eager(on_gpu, cache, precision):
    lowest, mean = agreement(TensorRtEngine(on_gpu, SIZE, precision, cache), on_gpu, SIZE)
    assert lowest > 0.99
    assert mean > 0.999


def test_a_built_engine_is_cached(on_gpu, cache, monkeypatch):
    TensorRtEngine(on_gpu, SIZE, torch.float32, cache)
    monkeypatch.setattr("tttkd_ros.teacher.tensorrt_engine._build", lambda *_: pytest.fail("built again"))
    TensorRtEngine(on_gpu, SIZE, torch.float32, cache)


def test_a_damaged_engine_is_built_again(on_gpu, cache):
    cache_path = TensorRtEngine(on_gpu, SIZE, torch.float32, cache).cache_path
    size = cache_path.stat().st_size
    for content in (b"", cache_path.read_bytes()[: size // 2]):
        cache_path.write_bytes(content)
        assert TensorRtEngine(on_gpu, SIZE, torch.float32, cache)(torch.zeros(1, 3, *SIZE).cuda()).isfinite().all()
        assert cache_path.stat().st_size == pytest.approx(size, rel=0.01)


def test_other_weights_or_precision_make_another_engine(on_gpu, build_model):
    device = torch.device("cuda")
    key = engine_key(on_gpu, SIZE, torch.float16, device)
    assert key != engine_key(on_gpu, SIZE, torch.float32, device)
    other = PatchFeatures(build_model(mlp_ratio=2), SIZE).cuda()
    assert key != engine_key(other, SIZE, torch.float16, device)
    on_gpu.config, before = "another", on_gpu.config
    assert key != engine_key(on_gpu, SIZE, torch.float16, device)
    on_gpu.config = before
