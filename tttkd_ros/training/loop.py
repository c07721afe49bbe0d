"""The loop that every training shares: progress bar, resuming from a file, one seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from rich.progress import Progress

from tttkd_ros.files import put_in_place


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
    settings: Mapping[str, str] = MappingProxyType({}),
    every: int = 100,
) -> None:
    """Call `step(i)` for i in 0..steps - 1 and show the loss that it returns.

    With `resume`, the state is kept in that file every `every` steps and taken up from there when it exists, so that
    an interrupted training goes on where it was. `step` must draw what is random from (seed, i) alone: then a resumed
    training equals an uninterrupted one. settings: all else that the result depends on.

    Raises ValueError when the file belongs to a training of other settings, FloatingPointError when the loss stops
    being finite.
    """
    first, settings = 0, {"steps": str(steps), **settings}
    if resume is not None and resume.exists():
        try:
            saved = torch.load(resume, weights_only=True)
            others, first = dict(saved["settings"]), int(saved["next"])
            if others == settings:
                for name, part in state.items():
                    part.load_state_dict(saved[name])
        except Exception as error:  # neither torch nor the parts say what a damaged file makes them raise
            raise ValueError(f"{resume} is damaged, or no interrupted training: delete it ({error!r})") from error
        if others != settings:
            differing = ", ".join(
                f"{name} {others.get(name, 'none')} there, {settings.get(name, 'none')} here"
                for name in sorted(others.keys() | settings.keys()) if others.get(name) != settings.get(name)
            )
            raise ValueError(f"{resume} holds another training ({differing}): delete it, or give the same settings")
    smooth = None
    with Progress() as bar:
        task = bar.add_task(title, total=steps, completed=first)
        for i in range(first, steps):
            loss = step(i)
            if not abs(loss) < float("inf"):
                raise FloatingPointError(f"{title}: the loss is {loss} at step {i}: lower the learning rate")
            smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
            bar.update(task, advance=1, description=f"{title}, loss {smooth:.3f}")
            if resume is not None and ((i + 1) % every == 0 or i + 1 == steps):
                partial = resume.with_suffix(".partial")
                torch.save(
                    {"settings": settings, "next": i + 1, **{name: part.state_dict() for name, part in state.items()}},
                    partial,
                )
                put_in_place(partial, resume)
