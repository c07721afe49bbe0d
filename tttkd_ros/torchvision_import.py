"""Imports torchvision, also if its compiled part does not fit torch. Import this before timm and torchmetrics.

PyPI's torchvision for x86-64 is built for CUDA. Beside a CPU build of torch its import ends with "operator
torchvision::nms does not exist". This package needs none of its operators, so a declaration without an implementation
is enough.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    for _name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
