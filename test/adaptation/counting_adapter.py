"""An adapter for the tests of processes; a file of its own, because the child has to import it."""

import logging
import os
import signal
import time
from types import MappingProxyType

import torch

from tttkd_ros.adaptation.adapter import StepReport
from tttkd_ros.segmenter.weights import Weights

SHIPPED = Weights(0, MappingProxyType({"first": torch.zeros(2, 3), "second": torch.zeros(1)}))


class Counting:
    """Adds 1 to its weights at every step. The frame may be a command."""

    def __init__(self, start: float = 0.0):
        self._tensors = {name: tensor.clone() + start for name, tensor in SHIPPED.tensors.items()}
        self._version = 0

    def step(self, frame, config):
        if frame == "raise":
            raise OSError("no such image")
        if frame == "die":
            os.kill(os.getpid(), signal.SIGSEGV)
        if frame == "hang":
            time.sleep(600)
        while frame == "talk":  # to a parent that may be gone
            time.sleep(0.01)
            logging.getLogger("tttkd_ros.child").warning("still there")
        logging.getLogger("tttkd_ros.child").warning("a step at %g", config.learning_rate)
        if frame == "reject":
            return StepReport(0, self._version, False, "not wanted")
        for tensor in self._tensors.values():
            tensor += 1
        self._version += 1
        return StepReport(0, self._version, True, cosine=float(os.getpid()))

    def weights(self):
        return Weights(self._version, MappingProxyType(self._tensors))

    def load_weights(self, weights):
        for name, tensor in weights.tensors.items():
            self._tensors[name].copy_(tensor)
        self._version = weights.version

    def close(self):
        pass


def refuse():
    raise ValueError("no teacher at 'nowhere'")


def take_forever():
    time.sleep(600)
