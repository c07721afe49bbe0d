"""What runs the teacher: eager torch, OpenVINO or TensorRT, behind one small interface.

An engine other than eager is used only if its features point the same way as eager's. Reduced precision can ruin a ViT
silently (fp16 overflows in LayerNorm), and the student would learn nonsense.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from tttkd_ros.teacher.building import BuildStopped

if TYPE_CHECKING:
    from tttkd_ros.teacher.features import PatchFeatures

log = logging.getLogger(__name__)

ENGINES = ("auto", "eager", "openvino", "tensorrt")
MIN_COSINE = 0.99  # of any patch with eager's ...
MIN_MEAN_COSINE = 0.999  # ... and of all patches on average

# Engine -> the module that it needs, and how to install that.
_NEEDS = {"openvino": ("openvino", "pip install 'tttkd_ros[openvino]'"),
          "tensorrt": ("torch_tensorrt", "pip install 'tttkd_ros[gpu]'")}


class Engine(Protocol):
    """Runs a teacher. `PatchFeatures` is the engine `eager`, and the reference for all others."""

    name: str
    cache_path: Path | None  # the file from which the next start reads it; None if each start makes it anew

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return features (B, rows * columns, dim) of normalised pixels (B, 3, height, width), both float32."""


class SwitchingEngine:
    """Runs `first` until `find`, in a thread of its own, returns a better engine. One thread uses it at a time.

    `find` gets an event that is set when this engine is garbage collected.
    """

    def __init__(self, first: Engine, find: Callable[[threading.Event], Engine]):
        self._current = [first]  # the thread refers to the list alone, else this engine would never be collected
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
        log.exception("teacher engine: still %s, because the search for a better one failed", current[0].name)


def choose_engine(name: str, features: PatchFeatures, size: tuple[int, int], device: str | torch.device, threads: int,
                  *, background: bool = False) -> Engine:
    """Choose what runs a teacher; eager with a warning if the chosen engine fails.

    Args:
        name: one of `ENGINES`; "auto" stands for the fastest that is installed for the device.
        features: the teacher, on the device.
        size: (height, width) of the input in pixels.
        threads: of OpenVINO; the others use torch's.
        background: build TensorRT's engine, which takes minutes, in a thread, and run eager until it is ready.

    Raises ValueError if the engine is unknown, not installed, or needs another device.
    """
    if name not in ENGINES:
        raise ValueError(f"teacher engine {name!r} is unknown; expected one of {', '.join(ENGINES)}")
    on_cuda = torch.device(device).type == "cuda"
    if name == "auto":
        name = "tensorrt" if on_cuda else "openvino"
        if importlib.util.find_spec(_NEEDS[name][0]) is None:
            log.info("teacher engine: eager (%s is not installed: %s)", *_NEEDS[name])
            return features
    if name == "eager":
        log.info("teacher engine: eager")
        return features
    if name == "tensorrt" and not on_cuda:
        raise ValueError(f"teacher engine 'tensorrt' needs a CUDA device, not {device!r}; use 'auto' or 'eager'")
    module, remedy = _NEEDS[name]
    if importlib.util.find_spec(module) is None:
        raise ValueError(f"teacher engine {name!r} needs {module}, which is not installed: {remedy}, or use 'eager'")
    find = partial(_build_verified, name, features, size, threads)
    if background and name == "tensorrt":
        log.info("teacher engine: eager until %s is ready", name)
        return SwitchingEngine(features, find)
    return find(threading.Event())


def _build_verified(name: str, features: PatchFeatures, size: tuple[int, int], threads: int,
                    stop: threading.Event) -> Engine:
    """Build an engine in the first precision that agrees with eager; return eager with a warning if none does."""
    for precision, build in _builders(name, features, size, threads, stop).items():
        try:
            engine = build()
            lowest, mean = agreement(engine, features, size)
        except BuildStopped:
            raise
        except Exception as error:  # whatever a compiler raises, eager still works
            log.warning("teacher engine %s (%s) cannot be built: %s: %s", name, precision, type(error).__name__, error)
            continue
        if lowest >= MIN_COSINE and mean >= MIN_MEAN_COSINE:  # false for NaN
            log.info("teacher engine: %s in %s precision", name, precision)
            return engine
        log.warning("teacher engine %s (%s) disagrees with eager: lowest cosine %.5f, mean %.5f; needed %s and %s",
                    name, precision, lowest, mean, MIN_COSINE, MIN_MEAN_COSINE)
    log.warning("teacher engine: eager, because %s did not pass", name)
    return features


def _builders(name: str, features: PatchFeatures, size: tuple[int, int], threads: int,
              stop: threading.Event) -> dict[str, Callable[[], Engine]]:
    """Return the functions that build an engine, by precision, in the order to try."""
    if name == "openvino":
        from tttkd_ros.teacher.openvino_engine import OpenVinoEngine

        # "native" is the processor's choice: bfloat16 if it multiplies in that.
        return {"native": partial(OpenVinoEngine, features, size, threads),
                "f32": partial(OpenVinoEngine, features, size, threads, precision="f32")}
    from tttkd_ros.teacher.tensorrt_engine import TensorRtEngine

    return {"fp16": partial(TensorRtEngine, features, size, torch.float16, stop=stop),
            "fp32": partial(TensorRtEngine, features, size, torch.float32, stop=stop)}


@torch.no_grad()
def agreement(engine: Engine, features: PatchFeatures, size: tuple[int, int]) -> tuple[float, float]:
    """Return the lowest and the mean cosine of an engine's and eager's features of random images, smooth with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(2, 3, 5, 7, generator=generator)
    pixels = interpolate(coarse, size, mode="bilinear") + 0.2 * torch.randn(2, 3, *size, generator=generator)
    pixels = pixels.to(features.device)
    cosine = cosine_similarity(engine(pixels), features(pixels), dim=-1)
    return cosine.min().item(), cosine.mean().item()
