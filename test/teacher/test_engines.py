import copy
import gc
import importlib.util
import logging
import subprocess
import sys
import threading
import time

import pytest
import torch
from tiny_teacher import save_tiny_teacher

from tttkd_ros.teacher import engines
from tttkd_ros.teacher.engines import SwitchingEngine, agreement, choose_engine
from tttkd_ros.teacher.features import PatchFeatures

SIZE = (70, 140)  # 5 x 10 patches
TIMEOUT_S = 10

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


class Changed:
    """Eager's features, changed by a function."""

    name = "openvino"

    def __init__(self, features, change):
        self._features, self._change = features, change

    def __call__(self, pixels):
        return self._change(self._features(pixels))


@pytest.fixture
def choose(monkeypatch, features):
    """`choose(precision=change)`: choose `openvino`, whose features in each precision are changed by a function."""
    def choose(**changes):
        monkeypatch.setattr(engines, "_builders", lambda *_: {
            precision: lambda change=change: Changed(features, change) for precision, change in changes.items()})
        monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
        return choose_engine("openvino", features, SIZE, "cpu", 1)
    return choose


def fail(_):
    raise RuntimeError("no such instruction")


def flip_one_patch(features):
    features = features.clone()
    features[0, 7] = -features[0, 7]
    return features


def test_eager_agrees_with_itself(features):
    assert agreement(features, features, SIZE) == pytest.approx((1.0, 1.0), abs=1e-5)


def test_an_engine_that_agrees_is_taken(choose):
    assert choose(native=lambda y: y * 1.01).name == "openvino"


def test_the_next_precision_is_tried_if_one_disagrees(choose, caplog):
    assert choose(native=lambda y: y.flip(1), f32=lambda y: y).name == "openvino"
    assert "openvino (native) disagrees with eager" in caplog.text


@pytest.mark.parametrize("change", [lambda y: -y, lambda y: y * torch.nan, fail, lambda y: y[:, :3], flip_one_patch])
def test_eager_replaces_an_engine_that_fails(choose, caplog, change):
    assert choose(native=change).name == "eager"
    assert "eager, because openvino did not pass" in caplog.text


def test_auto_without_openvino_is_eager(features, monkeypatch, caplog):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert choose_engine("auto", features, SIZE, "cpu", 1).name == "eager"
    assert "openvino is not installed" in caplog.text


@pytest.mark.parametrize(("name", "message"), [
    ("openvino", "pip install"), ("tensorrt", "needs a CUDA device"),
    ("onnx", "'onnx' is unknown; expected one of auto, eager, openvino, tensorrt"),
])
def test_an_engine_that_cannot_run_is_refused_with_the_remedy(features, monkeypatch, name, message):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=message):
        choose_engine(name, features, SIZE, "cpu", 1)


def wait_until(condition):
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def search():
    """`search(found)`: what returns or raises `found` once the event `ready` is set."""
    ready = threading.Event()

    def of(found):
        def find(stop):
            assert ready.wait(TIMEOUT_S)
            if isinstance(found, Exception):
                raise found
            return found
        return find

    of.ready = ready
    return of


def test_the_first_engine_runs_until_the_better_one_is_ready(features, search):
    engine = SwitchingEngine(features, search(Changed(features, lambda y: y + 1)))
    pixels = torch.randn(1, 3, *SIZE)
    assert engine.name == "eager"
    assert torch.equal(engine(pixels), features(pixels))
    search.ready.set()
    wait_until(lambda: engine.name == "openvino")
    assert torch.equal(engine(pixels), features(pixels) + 1)


def test_the_first_engine_stays_if_the_search_fails(features, search, caplog):
    engine = SwitchingEngine(features, search(RuntimeError("no such instruction")))
    search.ready.set()
    wait_until(lambda: "no such instruction" in caplog.text)
    assert engine.name == "eager"
    assert len(caplog.records) == 1


def test_the_search_is_stopped_when_the_engine_is_garbage_collected(features):
    stopped = threading.Event()
    engine = SwitchingEngine(features, lambda stop: stop.wait(TIMEOUT_S) and stopped.set())
    assert not stopped.is_set()
    del engine
    gc.collect()
    assert stopped.wait(TIMEOUT_S)


@pytest.mark.parametrize(("background", "at_first"), [(True, "eager"), (False, "tensorrt")])
def test_eager_runs_during_a_build_in_the_background(features, monkeypatch, background, at_first):
    built, ready = Changed(features, lambda y: y), threading.Event()
    built.name = "tensorrt"
    monkeypatch.setattr(engines, "_build_verified", lambda *_: (not background or ready.wait(TIMEOUT_S)) and built)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: object())
    engine = choose_engine("tensorrt", features, SIZE, "cuda", 1, background=background)
    assert engine.name == at_first
    ready.set()
    wait_until(lambda: engine.name == "tensorrt")


@needs_openvino
def test_auto_takes_openvino(features, caplog):
    with caplog.at_level(logging.INFO):
        assert choose_engine("auto", features, SIZE, "cpu", 1).name == "openvino"
    assert "teacher engine: openvino in native precision" in caplog.text


@needs_openvino
def test_openvino_agrees_with_eager_patch_by_patch(model):
    from tttkd_ros.teacher.openvino_engine import OpenVinoEngine

    features = PatchFeatures(copy.deepcopy(model), SIZE)
    lowest, _ = agreement(OpenVinoEngine(features, SIZE, threads=1, precision="f32"), features, SIZE)
    assert lowest > 0.99999


@needs_openvino
def test_openvino_is_repeatable_in_every_engine(features):
    from tttkd_ros.teacher.openvino_engine import OpenVinoEngine

    pixels = torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    first, second = (OpenVinoEngine(features, SIZE, threads=1) for _ in range(2))
    expected = first(pixels)
    assert expected.shape == (3, 50, 32)
    assert all(torch.equal(engine(pixels), expected) for engine in (first, second, first))


CLOSED = """
import signal, subprocess, sys
from tttkd_ros.teacher.foundation_model import load_teacher
signal.signal(signal.SIGCHLD, lambda *arguments: None)
older, newer = (load_teacher(sys.argv[1], input_size=(28, 28), engine="openvino") for _ in range(2))
del older
del newer
subprocess.run([sys.executable, "-c", ""], check=True)
"""


@needs_openvino
def test_signals_are_handled_after_engines_were_closed(tmp_path):
    save_tiny_teacher(tmp_path / "teacher")
    child = subprocess.run([sys.executable, "-c", CLOSED, tmp_path / "teacher"], capture_output=True, text=True,
                           timeout=TIMEOUT_S * 10)
    assert child.returncode == 0, child.stderr
