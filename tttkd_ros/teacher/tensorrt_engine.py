"""The teacher compiled by TensorRT for this machine's GPU, cached on disk between runs."""

from __future__ import annotations

import copy
import fcntl
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import tensorrt
import torch
import torch_tensorrt
from torch import Tensor

from tttkd_ros.files import put_in_place
from tttkd_ros.teacher.building import build_apart
from tttkd_ros.teacher.features import PatchFeatures
from tttkd_ros.teacher.timm_import import timm

log = logging.getLogger(__name__)


class TensorRtEngine:
    """Runs one image at a time. It is not thread-safe.

    Weights and input are cast, because TensorRT's argument for the precision differs between versions.

    features: the teacher, on a CUDA device. size: (height, width) of the input in pixels. precision: torch.float16 or
    torch.float32. cache: folder of built engines; None stands for the user's. Raises as `build_apart`.
    """

    name = "tensorrt"

    def __init__(self, features: PatchFeatures, size: tuple[int, int], precision: torch.dtype,
                 cache: Path | None = None, stop: threading.Event | None = None):
        self._device = features.device
        self._dtype = precision
        cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tttkd_ros" / "engines"
        self.cache_path = cache / f"{engine_key(features, size, precision, self._device)}.ep"
        self._program = self._load_cached() if self.cache_path.exists() else None
        if self._program is None:
            cache.mkdir(parents=True, exist_ok=True)
            log.info("building the TensorRT engine %s; this takes minutes, once", self.cache_path)
            example = torch.zeros(1, 3, *size, dtype=precision, device=self._device)
            build_apart(partial(_build, features, example, self.cache_path), stop or threading.Event())
            self._program = self._load()

    def __call__(self, pixels: Tensor) -> Tensor:
        with torch.cuda.device(self._device):
            return torch.cat([self._program(image[None].to(self._dtype)).float() for image in pixels])

    def _load_cached(self) -> Callable[[Tensor], Tensor] | None:
        """Load the program of an earlier build. If it is damaged, delete its file and return None."""
        try:
            return self._load()
        except Exception as error:  # torch and TensorRT document no errors for damaged files
            log.warning("the TensorRT engine %s cannot be read and is built again: %r", self.cache_path, error)
            self.cache_path.unlink(missing_ok=True)
            return None

    def _load(self) -> Callable[[Tensor], Tensor]:
        with torch.cuda.device(self._device):  # an engine belongs to the current device
            return torch_tensorrt.load(str(self.cache_path)).module()


def engine_key(features: PatchFeatures, size: tuple[int, int], precision: torch.dtype, device: torch.device) -> str:
    """Hash everything that a compiled engine depends on: model, input, precision, GPU and compilers."""
    digest = hashlib.sha256(features.config.encode())
    for name, tensor in sorted(features.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(repr((size, str(precision), torch.cuda.get_device_name(device), torch.__version__, timm.__version__,
                        tensorrt.__version__, torch_tensorrt.__version__)).encode())
    return digest.hexdigest()[:32]


def _build(features: PatchFeatures, example: Tensor, path: Path) -> None:
    """Compile a teacher for inputs like `example` into a file, unless another process has done so."""
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        unfinished = path.with_suffix(".unfinished.ep")  # the lock permits one writer; a killed one may have left it
        try:
            with torch.cuda.device(example.device):
                program = torch.export.export(copy.deepcopy(features).to(example.dtype), (example,))
                compiled = torch_tensorrt.dynamo.compile(
                    program, arg_inputs=(example,), device=example.device, use_fp32_acc=True
                )
                torch_tensorrt.save(compiled, str(unfinished), arg_inputs=(example,))
            put_in_place(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
