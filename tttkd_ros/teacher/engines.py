"""What runs the teacher: eager torch, OpenVINO or TensorRT, behind one small interface.

An engine other than eager is used only if its features point the same way as eager's: reduced precision can ruin a ViT
silently (fp16 overflows in LayerNorm), and the student would be taught nonsense.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from tttkd_ros.teacher.building import BuildStopped
from tttkd_ros.teacher.features import PatchFeatures

log = logging.getLogger(__name__)

ENGINES = ("auto", "eager", "openvino", "tensorrt")
LEAST_COSINE = 0.99  # of any patch with eager's ...
LEAST_MEAN_COSINE = 0.999  # ... and of all of them on average

# Engine -> the module it needs, and how to get it.
_NEEDS = {"openvino": ("openvino", "pip install 'tttkd_ros[openvino]'"),
          "tensorrt": ("torch_tensorrt", "pip install 'tttkd_ros[gpu]'")}


class Engine(Protocol):
    """pixels (B, 3, h, w) float32, normalised -> (B, rows * cols, dim) float32 on the same device.

    cache_path: the file that the next start will read it from, None where it is made anew.
    """

    name: str
    cache_path: Path | None

    def __call__(self, pixels: Tensor) -> Tensor: ...


class EagerEngine:
    """The module as it is: the reference that every other engine is measured against."""

    name = "eager"
    cache_path = None

    def __init__(self, features: PatchFeatures):
        self._features = features

    def __call__(self, pixels: Tensor) -> Tensor:
        return self._features(pixels)


class SwitchingEngine:
    """Answers with `first` until `find`, in a thread of its own, has found a better one.

    find: given an event that is set once nobody holds this engine any more. Not thread-safe but for that.
    """

    def __init__(self, first: Engine, find: Callable[[threading.Event], Engine]):
        self._current = [first]  # the thread holds the list: if it held this engine, nobody could let go of it
        stop = threading.Event()
        weakref.finalize(self, stop.set)
        threading.Thread(target=_switch, args=(self._current, find, stop), name="engine", daemon=True).start()

    @property
    def name(self) -> str:
        return self._current[0].name

    @property
    def cache_path(self) -> Path | None:
        return self._current[0].cache_path

    def __call__(self, pixels: Tensor) -> Tensor:
        return self._current[0](pixels)


def _switch(current: list[Engine], find: Callable[[threading.Event], Engine], stop: threading.Event) -> None:
    try:
        current[0] = find(stop)
    except BuildStopped:
        log.info("teacher engine: its build was stopped")
    except Exception:  # the first engine still works
        log.exception("teacher engine: still %s, for the search for a better one failed", current[0].name)


def choose_engine(
    name: str,
    features: PatchFeatures,
    size: tuple[int, int],
    device: str | torch.device,
    threads: int,
    *,
    background: bool = False,
) -> Engine:
    """The engine of that name, or for `auto` the fastest that this machine has; eager, with a warning, where it fails.

    size: (h, w) of the input. background: an engine that takes minutes to build is built beside, and eager answers
    until it is there. (OpenVINO's takes a second of the adapter's ten until its first step: no reason to hurry.)
    Raises ValueError for an unknown engine, and for one asked for by name that this machine cannot have.
    """
    if name not in ENGINES:
        raise ValueError(f"teacher engine {name!r} is unknown; expected one of {', '.join(ENGINES)}")
    on_cuda = torch.device(device).type == "cuda"
    if name == "auto":
        preferred = "tensorrt" if on_cuda else "openvino"
        if importlib.util.find_spec(_NEEDS[preferred][0]) is None:
            log.info("teacher engine: eager (%s is not installed: %s)", *_NEEDS[preferred])
            return EagerEngine(features)
        name, reason = preferred, f"the fastest for {'a GPU' if on_cuda else 'a CPU'} of those installed"
    else:
        reason = "as asked for"
    if name == "eager":
        log.info("teacher engine: eager (%s)", reason)
        return EagerEngine(features)
    if name == "tensorrt" and not on_cuda:
        raise ValueError(f"teacher engine 'tensorrt' needs a CUDA device, not {device!r}; use 'auto' or 'eager'")
    module, remedy = _NEEDS[name]
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"teacher engine {name!r} needs {module}, which is not installed: {remedy}, or use 'eager'")

    find = partial(_best, name, features, size, device, threads, reason)
    if background and name == "tensorrt":
        log.info("teacher engine: eager until %s is ready", name)
        return SwitchingEngine(EagerEngine(features), find)
    return find(threading.Event())


def _best(name: str, features: PatchFeatures, size: tuple[int, int], device: str | torch.device, threads: int,
          reason: str, stop: threading.Event) -> Engine:
    """The first of the engine's precisions that passes, or eager with a warning."""
    for precision, build in _builders(name, features, size, threads, stop).items():
        found = _accepted(f"{name} ({precision})", build, features, size, device)
        if found is not None:
            log.info("teacher engine: %s in %s precision (%s)", name, precision, reason)
            return found
    log.warning("teacher engine: eager, because %s did not pass", name)
    return EagerEngine(features)


def agreement(engine: Engine, features: PatchFeatures, size: tuple[int, int],
              device: str | torch.device) -> tuple[float, float]:
    """Least and mean cosine of the engine's patch features with eager's, on smooth and on noisy random images."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 3, 5, 7, generator=generator)
    pixels = interpolate(coarse, size, mode="bilinear") + 0.2 * torch.randn(2, 3, *size, generator=generator)
    pixels = pixels.to(device)
    with torch.no_grad():
        cosine = cosine_similarity(engine(pixels), features(pixels), dim=-1)
    return cosine.min().item(), cosine.mean().item()


def _builders(
    name: str, features: PatchFeatures, size: tuple[int, int], threads: int, stop: threading.Event
) -> dict[str, Callable[[], Engine]]:
    """Precision -> what builds the engine in it, in the order to try."""
    if name == "openvino":
        from tttkd_ros.teacher.openvino_engine import OpenVinoEngine

        # The processor's own choice is bfloat16 where it multiplies in that.
        return {"native": lambda: OpenVinoEngine(features, size, threads),
                "f32": lambda: OpenVinoEngine(features, size, threads, precision="f32")}
    from tttkd_ros.teacher.tensorrt_engine import TensorRtEngine

    return {"fp16": lambda: TensorRtEngine(features, size, torch.float16, stop=stop),
            "fp32": lambda: TensorRtEngine(features, size, torch.float32, stop=stop)}


def _accepted(label: str, build: Callable[[], Engine], features: PatchFeatures, size: tuple[int, int],
              device: str | torch.device) -> Engine | None:
    """The engine, or None with a warning where it cannot be built or disagrees with eager."""
    try:
        engine = build()
        least, mean = agreement(engine, features, size, device)
    except BuildStopped:
        raise
    except Exception as error:  # whatever a compiler raises, eager still works
        log.warning("teacher engine %s cannot be built: %s: %s", label, type(error).__name__, error)
        return None
    # Written so that NaN fails.
    if least >= LEAST_COSINE and mean >= LEAST_MEAN_COSINE:
        return engine
    log.warning("teacher engine %s disagrees with eager: cosine %.5f at least, %.5f on average; needed %s and %s",
                label, least, mean, LEAST_COSINE, LEAST_MEAN_COSINE)
    return None
