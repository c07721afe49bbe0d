import gc
import importlib.util
import logging
import threading
import time

import pytest
import torch

from tttkd_ros.teacher import engines
from tttkd_ros.teacher.engines import EagerEngine, SwitchingEngine, agreement, choose_engine

SIZE = (70, 140)  # 5 x 10 patches
PATIENCE = 10  # seconds until a test that waits in vain fails

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


class Spoilt:
    """Eager's features, changed."""

    name = "openvino"

    def __init__(self, features, change):
        self._features, self._change = features, change

    def __call__(self, pixels):
        return self._change(self._features(pixels))


@pytest.fixture
def offered(monkeypatch, features):
    """Makes engines with changed features the ones that `openvino` stands for."""
    def offer(**changes):
        monkeypatch.setattr(engines, "_builders", lambda *_: {
            precision: lambda change=change: Spoilt(features, change) for precision, change in changes.items()})
        monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
        return choose_engine("openvino", features, SIZE, "cpu", 1)
    return offer


def unavailable(change):
    raise RuntimeError("no such instruction")


def test_eager_agrees_with_itself(features):
    assert agreement(EagerEngine(features), features, SIZE, "cpu") == pytest.approx((1.0, 1.0), abs=1e-5)


def test_an_engine_that_agrees_is_taken(offered):
    assert offered(native=lambda y: y * 1.01).name == "openvino"


def test_the_next_precision_is_tried_where_one_disagrees(offered, caplog):
    engine = offered(native=lambda y: y.flip(1), f32=lambda y: y)
    assert engine.name == "openvino"
    assert "openvino (native) disagrees with eager" in caplog.text


@pytest.mark.parametrize("change", [lambda y: -y, lambda y: y * torch.nan, unavailable, lambda y: y[:, :3]])
def test_an_engine_that_fails_gives_way_to_eager_with_a_warning(offered, caplog, change):
    assert offered(native=change).name == "eager"
    assert "eager, because openvino did not pass" in caplog.text


def test_one_bad_patch_is_enough_to_refuse_an_engine(offered):
    def one_patch_wrong(y):
        y = y.clone()
        y[0, 7] = -y[0, 7]
        return y
    assert offered(native=one_patch_wrong).name == "eager"


def test_auto_without_openvino_is_eager_and_says_so(features, monkeypatch, caplog):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert choose_engine("auto", features, SIZE, "cpu", 1).name == "eager"
    assert "openvino is not installed" in caplog.text


def test_an_engine_asked_for_but_not_installed_says_how_to_get_it(features, monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install"):
        choose_engine("openvino", features, SIZE, "cpu", 1)


def test_tensorrt_on_a_cpu_is_refused(features):
    with pytest.raises(ValueError, match="needs a CUDA device"):
        choose_engine("tensorrt", features, SIZE, "cpu", 1)


def test_an_unknown_engine_is_refused(features):
    with pytest.raises(ValueError, match="'onnx' is unknown; expected one of auto, eager, openvino, tensorrt"):
        choose_engine("onnx", features, SIZE, "cpu", 1)


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Slow:
    """Finds an engine, or raises, once it may."""

    def __init__(self, found):
        self._found, self.may = found, threading.Event()

    def __call__(self, stop):
        assert self.may.wait(PATIENCE)
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def test_the_first_engine_answers_until_the_better_one_is_there(features):
    find = Slow(Spoilt(features, lambda y: y + 1))
    engine, pixels = SwitchingEngine(EagerEngine(features), find), torch.randn(1, 3, *SIZE)
    assert engine.name == "eager"
    assert torch.equal(engine(pixels), features(pixels))
    find.may.set()
    until(lambda: engine.name == "openvino")
    assert torch.equal(engine(pixels), features(pixels) + 1)


def test_the_first_engine_stays_where_the_search_for_a_better_one_fails(features, caplog):
    find = Slow(RuntimeError("no such instruction"))
    engine = SwitchingEngine(EagerEngine(features), find)
    find.may.set()
    until(lambda: "no such instruction" in caplog.text)
    assert engine.name == "eager"
    assert len(caplog.records) == 1


def test_a_search_is_told_when_nobody_holds_the_engine_any_more(features):
    stopped = threading.Event()
    engine = SwitchingEngine(EagerEngine(features), lambda stop: stop.wait(PATIENCE) and stopped.set())
    assert not stopped.is_set()
    del engine
    gc.collect()
    assert stopped.wait(PATIENCE)


@pytest.mark.parametrize(("background", "at_first"), [(True, "eager"), (False, "tensorrt")])
def test_only_in_the_background_does_eager_answer_while_tensorrt_is_built(
    features, monkeypatch, background, at_first
):
    built, may = Spoilt(features, lambda y: y), threading.Event()
    built.name = "tensorrt"
    monkeypatch.setattr(engines, "_best", lambda *_: (not background or may.wait(PATIENCE)) and built)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
    engine = choose_engine("tensorrt", features, SIZE, "cuda", 1, background=background)
    assert engine.name == at_first
    may.set()
    until(lambda: engine.name == "tensorrt")


@needs_openvino
def test_auto_takes_openvino_and_says_so(features, caplog):
    with caplog.at_level(logging.INFO):
        assert choose_engine("auto", features, SIZE, "cpu", 1).name == "openvino"
    assert "teacher engine: openvino in native precision" in caplog.text


@needs_openvino
def test_openvino_agrees_with_eager_patch_by_patch(model):
    from tttkd_ros.teacher.features import PatchFeatures
    from tttkd_ros.teacher.openvino_engine import OpenVinoEngine

    features = PatchFeatures(model, SIZE)
    least, _ = agreement(OpenVinoEngine(features, SIZE, threads=1, precision="f32"), features, SIZE, "cpu")
    assert least > 0.99999


@needs_openvino
def test_openvino_answers_alike_every_time_and_in_every_engine(features):
    from tttkd_ros.teacher.openvino_engine import OpenVinoEngine

    pixels = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    first, second = (OpenVinoEngine(features, SIZE, threads=1) for _ in range(2))
    expected = first(pixels)
    assert expected.shape == (3, 50, 32)
    assert all(torch.equal(engine(pixels), expected) for engine in (first, second, first))
