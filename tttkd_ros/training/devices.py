"""The processes, devices and number formats of a training, by Lightning Fabric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

import torch

from tttkd_ros.devices import require_device, resolve_device

Accelerator = Literal["auto", "cpu", "cuda"]
Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
_WAIT = timedelta(days=7)  # the other processes wait for the one that prepares all frames


@dataclass(frozen=True)
class Processes:
    """devices: processes of a node, one for each GPU. unused_parameters: whether a step may leave out trainable
    parameters, the same ones in all processes. Raises ValueError if this machine has not as many GPUs."""

    accelerator: Accelerator = "cpu"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "32-true"
    unused_parameters: bool = False

    def __post_init__(self):
        for name in ("devices", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.precision == "16-mixed" and self.device == "cpu":
            raise ValueError("precision is 16-mixed, which needs a GPU: use 32-true or bf16-mixed")
        require_device(f"cuda:{self.devices - 1}" if self.device == "cuda" else "cpu")

    @property
    def device(self) -> str:
        """Return "cpu" or "cuda"."""
        return resolve_device(self.accelerator)

    @property
    def count(self) -> int:
        """Return the number of processes of all nodes."""
        return self.devices * self.nodes


def launch(processes: Processes, function: Callable, *arguments: object, **options: object) -> None:
    """Call `function(fabric, *arguments, **options)` in each process. Arguments must be picklable if there are several.

    The processes of one node are children of this one. On several nodes, the same command runs on each of them, with
    MASTER_ADDR, MASTER_PORT and NODE_RANK in its environment. Raises ChildProcessError with the message of a child.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import DDPStrategy

    several = processes.count > 1
    strategy = DDPStrategy(start_method="spawn" if processes.nodes == 1 else "popen", timeout=_WAIT,
                           find_unused_parameters=processes.unused_parameters)
    fabric = Fabric(accelerator=processes.device, devices=processes.devices, num_nodes=processes.nodes,
                    precision=processes.precision, strategy=strategy if several else "auto")
    try:
        # Fabric itself would take its arguments apart, and refuses frozen dataclasses.
        fabric.launch(partial(_call, function, arguments, options))
    except torch.multiprocessing.ProcessRaisedException as error:
        raise ChildProcessError(str(error).strip().splitlines()[-1]) from error


def _call(function: Callable, arguments: Sequence, options: Mapping, fabric: object) -> None:
    function(fabric, *arguments, **options)
