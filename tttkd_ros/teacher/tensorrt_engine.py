"""The teacher compiled by TensorRT for this machine's GPU, kept on disk between runs."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tensorrt
import torch
import torch_tensorrt
from torch import Tensor

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
        device = features.position.device
        self._dtype = precision
        cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tttkd_ros" / "engines"
        self.kept = cache / f"{engine_key(features, size, precision, device)}.ep"
        if not self.kept.exists():
            cache.mkdir(parents=True, exist_ok=True)
            log.info("building the TensorRT engine %s; this takes minutes, once", self.kept)
            example = torch.zeros(1, 3, *size, dtype=precision, device=device)
            build_apart(partial(_build, features, example, self.kept), stop)
        self._program = torch_tensorrt.load(str(self.kept)).module()

    def __call__(self, pixels: Tensor) -> Tensor:
        return torch.cat([self._program(image[None].to(self._dtype)).float() for image in pixels])


def engine_key(features: PatchFeatures, size: tuple[int, int], precision: torch.dtype, device: torch.device) -> str:
    """Everything that makes a compiled engine another one: weights, input, precision, GPU and compilers."""
    digest = hashlib.sha256()
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
    program = torch.export.export(module, (example,))
    compiled = torch_tensorrt.dynamo.compile(program, arg_inputs=(example,), use_fp32_acc=True)
    # Another process never sees half an engine: it is written beside its place and moved there.
    handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".ep")
    os.close(handle)
    try:
        torch_tensorrt.save(compiled, unfinished, arg_inputs=(example,))
        os.replace(unfinished, path)
    finally:
        Path(unfinished).unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that start together build an engine once."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
