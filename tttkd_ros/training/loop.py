"""The loop that every training shares: AdamW, a schedule of the learning rate, a progress bar, resuming."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from rich.progress import Progress
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tttkd_ros.files import Unwritable, write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Schedule = Literal["one-cycle", "steps"]


class Stateful(Protocol):
    """What a resumed training loads: modules, optimisers, records."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> object: ...


@dataclass(frozen=True)
class Optimisation:
    """AdamW and its learning rate.

    Attributes:
        steps: number of them.
        learning_rate: peak.
        block_learning_rate: that of a transformer's blocks, the parameters with "block" in their names; None for the
            same.
        max_norm: of the gradient; 0 does not clip it.
        schedule: "one-cycle", or "steps" that divide the rate by 10 after 80 % and 90 % of all steps.
        warm_up: share of the steps until the peak of the cycle.
        div: the first rate is the peak divided by this.
        final_div: the last rate is the first one divided by this.
    """

    steps: int
    learning_rate: float
    block_learning_rate: float | None = None
    weight_decay: float = 1e-4
    max_norm: float = 0.0
    schedule: Schedule = "one-cycle"
    warm_up: float = 0.3
    div: float = 25.0
    final_div: float = 1e4

    def build(self, module: nn.Module) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Make the optimiser of a module's trainable parameters, and its schedule."""
        named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
        blocks = [parameter for name, parameter in named if "block" in name and self.block_learning_rate is not None]
        others = [parameter for name, parameter in named if "block" not in name or self.block_learning_rate is None]
        groups = [{"params": parameters, "lr": rate} for parameters, rate in
                  ((others, self.learning_rate), (blocks, self.block_learning_rate)) if parameters]
        optimiser = torch.optim.AdamW(groups, weight_decay=self.weight_decay)
        if self.schedule == "steps":
            milestones = [max(round(share * self.steps), 1) for share in (0.8, 0.9)]
            return optimiser, torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones)
        # OneCycleLR divides by zero if the first step is its peak.
        warm_up = max(self.warm_up, 2 / self.steps) if self.steps > 2 else 0.3
        return optimiser, torch.optim.lr_scheduler.OneCycleLR(
            optimiser, [group["lr"] for group in groups], total_steps=self.steps, pct_start=warm_up,
            div_factor=self.div, final_div_factor=self.final_div,
        )


@dataclass(frozen=True)
class Resume:
    """Where the state of an interrupted training is kept, and the settings that must be the same to continue it.

    every: steps between two writes.
    """

    path: Path
    settings: Mapping[str, object] = field(default_factory=dict)
    every: int = 100


def train(
    fabric: Fabric, module: nn.Module, batches: Dataset, optimisation: Optimisation, *, title: str, seed: int = 0,
    resume: Resume | None = None, state: Mapping[str, Stateful] = MappingProxyType({}), workers: int = 0,
    after_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> None:
    """Train a module in place.

    Args:
        module: returns the losses of a batch; "loss" is minimised.
        batches: the batch of each step. It must follow from the step alone, so that a resumed training equals an
            uninterrupted one.
        seed: of the random numbers that the module draws.
        state: what a resumed training loads beside the optimiser. By default the module.
        workers: processes that draw batches; 0 for none beside this one.
        after_step: called with the number of steps done and the losses of the last one.

    Raises ValueError if the state is damaged or of other settings, FloatingPointError if the loss is no longer finite,
    Unwritable if the state cannot be written; the last one is intact then.
    """
    optimiser, schedule = optimisation.build(module)
    wrapped, fabric_optimiser = fabric.setup(module, optimiser)
    state = {**(state or {"module": module}), "optimiser": optimiser, "schedule": schedule,
             "precision": fabric.strategy.precision}
    settings = {"steps": optimisation.steps} | dict(resume.settings if resume else {})
    checkpoint = None if resume is None else _Checkpoint(resume, state, settings)
    first = 0 if checkpoint is None else checkpoint.load()
    loader = DataLoader(batches, None, sampler=range(first, optimisation.steps), num_workers=workers,
                        collate_fn=_unchanged)
    smooth, done = None, first
    wrapped.train()
    try:
        with Progress(disable=not fabric.is_global_zero) as bar:
            task = bar.add_task(title, total=optimisation.steps, completed=first)
            for step, batch in enumerate(loader, first):
                torch.manual_seed(_seed(seed, step, fabric.global_rank))
                losses = wrapped(fabric.to_device(batch))
                fabric_optimiser.zero_grad()
                fabric.backward(losses["loss"])
                if optimisation.max_norm:
                    fabric.clip_gradients(wrapped, fabric_optimiser, max_norm=optimisation.max_norm,
                                          error_if_nonfinite=False)
                fabric_optimiser.step()
                schedule.step()
                done = step + 1
                values = {name: value.item() for name, value in losses.items()}
                if not math.isfinite(values["loss"]):
                    raise FloatingPointError(f"{title}: the loss is {values['loss']} at step {step}: lower the "
                                             "learning rate")
                smooth = values["loss"] if smooth is None else 0.95 * smooth + 0.05 * values["loss"]
                bar.update(task, advance=1, description=f"{title}, loss {smooth:.3f}")
                after_step(done, values)
                wrapped.train()
                if checkpoint and fabric.is_global_zero and (done % resume.every == 0 or done == optimisation.steps):
                    checkpoint.save(done)
    except KeyboardInterrupt:
        if checkpoint and fabric.is_global_zero:
            print(f"interrupted after step {done}: {checkpoint.remedy()}")
        raise


class _Checkpoint:
    """The state of a training on disk."""

    def __init__(self, resume: Resume, state: Mapping[str, Stateful], settings: Mapping[str, object]):
        self._path, self._state = resume.path, state
        self._settings = {name: str(value) for name, value in settings.items()}
        self._last: int | None = None  # step of what is on disk

    def load(self) -> int:
        """Load the state if there is one, and return the next step."""
        if not self._path.exists():
            return 0
        try:
            saved = torch.load(self._path, weights_only=True, map_location="cpu")
            found, step = dict(saved["settings"]), int(saved["next"])
            if found == self._settings:
                for name, part in self._state.items():
                    part.load_state_dict(saved[name])
        except Exception as error:  # torch documents no errors for damaged files
            raise ValueError(f"{self._path} is damaged, or no interrupted training: delete it ({error!r})") from error
        if found != self._settings:
            different = ", ".join(
                f"{name} {found.get(name, 'none')} there, {self._settings.get(name, 'none')} here"
                for name in sorted(found.keys() | self._settings.keys()) if found.get(name) != self._settings.get(name)
            )
            raise ValueError(f"{self._path} holds another training ({different}): delete it, or give the same settings")
        self._last = step
        return step

    def save(self, step: int) -> None:
        content = io.BytesIO()
        torch.save({"settings": self._settings, "next": step,
                    **{name: part.state_dict() for name, part in self._state.items()}}, content)
        try:
            write_whole(self._path, content.getbuffer())
        except Unwritable as error:
            raise Unwritable(f"{error}; {self.remedy()}") from error
        self._last = step

    def remedy(self) -> str:
        """Say what a repeated command does."""
        if self._last is None:
            return "the same command starts again, because nothing was saved so far"
        return f"the same command continues after step {self._last}, whose state is in {self._path}"


def _unchanged(batch: object) -> object:
    return batch


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def print_digest(path: Path) -> None:
    """Print a file's SHA-256."""
    print(f"{path} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
