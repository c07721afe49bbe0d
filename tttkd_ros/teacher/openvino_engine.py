"""The teacher compiled by OpenVINO for this machine's processor."""

from __future__ import annotations

import copy
import warnings
from functools import lru_cache

import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor

from tttkd_ros.teacher.features import PatchFeatures


class OpenVinoEngine:
    """Runs one image at a time. It is not thread-safe.

    size: (height, width) of the input in pixels. precision: an OpenVINO element type; None leaves it to OpenVINO.
    """

    name = "openvino"
    cache_path = None  # building takes about as long as reading would

    def __init__(self, features: PatchFeatures, size: tuple[int, int], threads: int, precision: str | None = None):
        example = torch.zeros(1, 3, *size)
        # The front end is called directly: openvino.convert_model reports its use over the network by default.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tracing, which OpenVINO needs, and about shapes, which are fixed
            decoder = TorchScriptPythonDecoder(copy.deepcopy(features).cpu(), example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
        model.reshape(list(example.shape))
        config = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
                  "ENABLE_CPU_PINNING": False}  # the cores are shared with inference
        if precision is not None:
            config["INFERENCE_PRECISION_HINT"] = precision
        self._request = _core().compile_model(model, "CPU", config).create_infer_request()

    def __call__(self, pixels: Tensor) -> Tensor:
        images = pixels.cpu().numpy()
        # The request overwrites its output at the next call.
        features = [torch.from_numpy(self._request.infer({0: image[None]}, share_inputs=True)[0].copy())
                    for image in images]
        return torch.cat(features).to(pixels.device)


@lru_cache(maxsize=1)
def _core() -> openvino.Core:
    """One for the whole process, and never closed.

    On a processor with AMX each Core has the main thread's signals handled on a stack of its own, and gives back the
    one before when it is closed. If an older Core is closed first, the next signal of a Python handler, such as a
    child's end, ends the process.
    """
    return openvino.Core()
