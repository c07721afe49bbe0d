"""The loop that every training shares: AdamW with one cycle of the learning rate, a progress bar, resuming."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from rich.progress import Progress
from torch import Tensor, nn

from tttkd_ros.files import put_in_place


def train(
    modules: Mapping[str, nn.Module], loss: Callable[[int], Tensor], steps: int, learning_rate: float, *, title: str,
    weight_decay: float = 1e-4, max_norm: float = 0.0, cycle: Mapping[str, float] = MappingProxyType({}),
    resume: Path | None = None, settings: Mapping[str, object] = MappingProxyType({}), save_every: int = 100,
) -> None:
    """Train modules in place.

    Args:
        loss: the loss of step 0 to steps - 1. It must draw random numbers from a seed and the step alone, so that a
            resumed training equals an uninterrupted one.
        learning_rate: peak of the cycle, a OneCycleLR with the further arguments `cycle`.
        max_norm: of the gradient; 0 does not clip it.
        resume: keeps the state every `save_every` steps; an interrupted training with the same `settings` continues.

    Raises ValueError if `resume` is damaged or of other settings, FloatingPointError if the loss is no longer finite.
    """
    parameters = [parameter for module in modules.values() for parameter in module.parameters()]
    optimiser = torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, total_steps=steps, **cycle)
    state = {**modules, "optimiser": optimiser, "schedule": schedule}
    settings = {name: str(value) for name, value in {"steps": steps, **settings}.items()}
    first = _resume(resume, state, settings) if resume is not None and resume.exists() else 0
    smooth = None
    with Progress() as bar:
        task = bar.add_task(title, total=steps, completed=first)
        for step in range(first, steps):
            step_loss = loss(step)
            optimiser.zero_grad()
            step_loss.backward()
            if max_norm:
                nn.utils.clip_grad_norm_(parameters, max_norm)
            optimiser.step()
            schedule.step()
            value = step_loss.item()
            if not abs(value) < float("inf"):
                raise FloatingPointError(f"{title}: the loss is {value} at step {step}: lower the learning rate")
            smooth = value if smooth is None else 0.95 * smooth + 0.05 * value
            bar.update(task, advance=1, description=f"{title}, loss {smooth:.3f}")
            if resume is not None and ((step + 1) % save_every == 0 or step + 1 == steps):
                states = {name: part.state_dict() for name, part in state.items()}
                partial = resume.with_suffix(".partial")
                torch.save({"settings": settings, "next": step + 1, **states}, partial)
                put_in_place(partial, resume)


def _resume(path: Path, state: Mapping, settings: dict[str, str]) -> int:
    """Load a saved state and return the next step."""
    try:
        saved = torch.load(path, weights_only=True)
        found, step = dict(saved["settings"]), int(saved["next"])
        if found == settings:
            for name, part in state.items():
                part.load_state_dict(saved[name])
    except Exception as error:  # torch documents no errors for damaged files
        raise ValueError(f"{path} is damaged, or no interrupted training: delete it ({error!r})") from error
    if found != settings:
        different = ", ".join(
            f"{name} {found.get(name, 'none')} there, {settings.get(name, 'none')} here"
            for name in sorted(found.keys() | settings.keys()) if found.get(name) != settings.get(name)
        )
        raise ValueError(f"{path} holds another training ({different}): delete it, or give the same settings")
    return step


def print_digest(path: Path) -> None:
    """Print a file's SHA-256."""
    print(f"{path} sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}")
