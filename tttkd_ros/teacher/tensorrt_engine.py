"""The teacher compiled by TensorRT for this machine's GPU, cache_path on disk between runs."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tensorrt
import torch
import torch_tensorrt
from torch import Tensor

from tttkd_ros.files import put_in_place
from tttkd_ros.teacher.building import build_apart
from tttkd_ros.teacher.features import PatchFeatures

log = logging.getLogger(__name__)


class TensorRtEngine:
    """One image at a time, of a fixed size. precision: torch.float16 or torch.float32. stop: ends a build, which then
    raises `BuildStopped`.

    Weights and input are cast, rather than a precision asked of TensorRT, because the argument for that differs
    between versions. Not thread-safe: only the adaptation worker calls it.
    """

    name = "tensorrt"

    def __init__(self, features: PatchFeatures, size: tuple[int, int], precision: torch.dtype,
                 cache: Path | None = None, stop: threading.Event | None = None):
        self._device = features.position.device
        self._dtype = precision
        cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tttkd_ros" / "engines"
        self.cache_path = cache / f"{engine_key(features, size, precision, self._device)}.ep"
        self._program = self._load_kept() if self.cache_path.exists() else None
        if self._program is None:
            cache.mkdir(parents=True, exist_ok=True)
            log.info("building the TensorRT engine %s; this takes minutes, once", self.cache_path)
            example = torch.zeros(1, 3, *size, dtype=precision, device=self._device)
            build_apart(partial(_build, features, example, self.cache_path), stop)
            self._program = self._load()

    def __call__(self, pixels: Tensor) -> Tensor:
        with torch.cuda.device(self._device):
            return torch.cat([self._program(image[None].to(self._dtype)).float() for image in pixels])

    def _load_kept(self) -> Callable[[Tensor], Tensor] | None:
        """The program of an earlier build; None, and the file is gone, where it is damaged."""
        try:
            return self._load()
        except Exception as error:  # neither torch nor TensorRT say what a damaged file makes them raise
            log.warning("the TensorRT engine %s cannot be read, and is built anew: %r", self.cache_path, error)
            self.cache_path.unlink(missing_ok=True)
            return None

    def _load(self) -> Callable[[Tensor], Tensor]:
        with torch.cuda.device(self._device):  # an engine is for the current one
            return torch_tensorrt.load(str(self.cache_path)).module()


def engine_key(features: PatchFeatures, size: tuple[int, int], precision: torch.dtype, device: torch.device) -> str:
    """Everything that makes a compiled engine another one: model, input, precision, GPU and compilers."""
    digest = hashlib.sha256(features.config.encode())
    for name, tensor in sorted(features.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(repr((size, str(precision), torch.cuda.get_device_name(device), torch.__version__,
                        tensorrt.__version__, torch_tensorrt.__version__)).encode())
    return digest.hexdigest()[:32]


def _build(features: PatchFeatures, example: Tensor, path: Path) -> None:
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            _compile(features, example, path)


def _compile(features: PatchFeatures, example: Tensor, path: Path) -> None:
    module = copy.deepcopy(features).to(example.dtype)
    # Another process never sees half an engine: it is written beside its place and moved there. What a killed build has
    # left is overwritten: the lock leaves one writer.
    unfinished = path.with_suffix(".unfinished.ep")
    try:
        with torch.cuda.device(example.device):
            program = torch.export.export(module, (example,))
            compiled = torch_tensorrt.dynamo.compile(
                program, arg_inputs=(example,), device=example.device, use_fp32_acc=True
            )
            torch_tensorrt.save(compiled, str(unfinished), arg_inputs=(example,))
        put_in_place(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that start together build an engine once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
