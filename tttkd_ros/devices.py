"""Devices that models run on, and CUDA streams that let prediction overtake adaptation on one GPU."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def resolve_device(name: str) -> str:
    """Replace "auto" by "cuda" if this machine has a CUDA device, else by "cpu". Other names stay."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def require_device(name: str | torch.device) -> None:
    """Raise ValueError with the remedy if `name` is no CPU or CUDA device of this machine."""
    try:
        device = torch.device(name)
    except RuntimeError:  # its message lists all device types of any torch build
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device {str(name)!r} is unknown; use 'cpu', or 'cuda' if there is a CUDA device")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {str(name)!r} asked for, but torch finds no CUDA device; use 'cpu'")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(f"device {str(name)!r} asked for, but the last that torch finds is 'cuda:{count - 1}'; use it")


class CudaStream:
    """A CUDA stream to work in, `with stream():`; urgent ones come first on the GPU. On a CPU it does nothing."""

    def __init__(self, device: torch.device, *, urgent: bool):
        priority = -1 if urgent else 0  # lower numbers come first in CUDA
        self._stream = torch.cuda.Stream(device, priority=priority) if device.type == "cuda" else None

    def __call__(self) -> AbstractContextManager:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def wait_for_stream(device: torch.device) -> None:
    """Wait until everything that this thread has queued on the device is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
