"""The loop that every training shares: progress bar, resuming from a file, one seed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from tttkd_ros.progress import progress


class Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def run(
    steps: int,
    step: Callable[[int], float],
    state: dict[str, Stateful],
    *,
    title: str,
    resume: Path | None = None,
    every: int = 100,
) -> None:
    """Call `step(i)` for i in 0..steps - 1 and show the loss that it returns.

    With `resume`, the state is kept in that file every `every` steps and taken up from there when it exists, so that
    an interrupted training goes on where it was. `step` must draw what is random from (seed, i) alone: then a resumed
    training equals an uninterrupted one.

    Raises ValueError when the file belongs to a training of another length, FloatingPointError when the loss stops
    being finite.
    """
    first = 0
    if resume is not None and resume.exists():
        try:
            saved = torch.load(resume, weights_only=True)
            length, first = int(saved["steps"]), int(saved["next"])
            if length == steps:
                for name, part in state.items():
                    part.load_state_dict(saved[name])
        except Exception as error:  # neither torch nor the parts say what a damaged file makes them raise
            raise ValueError(f"{resume} is damaged, or no interrupted training: delete it ({error!r})") from error
        if length != steps:
            raise ValueError(
                f"{resume} holds a training of {length} steps, this one has {steps}: "
                "delete it, or give the same settings"
            )
    smooth = None
    with progress() as bar:
        task = bar.add_task(title, total=steps, completed=first, note="")
        for i in range(first, steps):
            loss = step(i)
            if not abs(loss) < float("inf"):
                raise FloatingPointError(f"{title}: the loss is {loss} at step {i}: lower the learning rate")
            smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
            bar.update(task, advance=1, note=f"loss {smooth:.3f}")
            if resume is not None and ((i + 1) % every == 0 or i + 1 == steps):
                partial = resume.with_suffix(".partial")
                torch.save(
                    {"steps": steps, "next": i + 1, **{name: part.state_dict() for name, part in state.items()}},
                    partial,
                )
                os.replace(partial, resume)
