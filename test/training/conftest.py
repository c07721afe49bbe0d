"""Settings of a tiny training on a bag of six sweeps, and parts of toy frames."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from tttkd_ros.training import loop
from tttkd_ros.training.config import TrainingConfig


@pytest.fixture(scope="session")
def curve_suffixes() -> set[str]:
    """The suffixes of the files with a training's curves: TensorBoard's only where it is installed."""
    return {".png"} | ({".tensorboard"} if importlib.util.find_spec("tensorboard") else set())


@pytest.fixture(scope="session")
def bag(tiny, tmp_path_factory):
    return tiny.bag(tmp_path_factory.mktemp("source") / "drive", tiny.frames(1))


@pytest.fixture(scope="session")
def tiny_config(tiny, bag) -> Callable[..., TrainingConfig]:
    """`tiny_config(out, **changes)`: the settings of a training of six steps."""

    def config(out, **changes):
        given = dict(data=(str(bag),), teacher=tiny.teacher, teacher_input=(28, 56), options=("levels=2",),
                     voxel_size=0.4, epochs=2, batch=2, workers=0, save_every=2, accelerator="cpu")
        return TrainingConfig(out=out, **given | changes)

    return config


@pytest.fixture
def interrupt(monkeypatch):
    """`interrupt(step)`: the training is interrupted after so many steps. Return what is called to end that."""

    def at(step):
        seed = loop._seed
        calls = []

        def counted(*numbers):
            calls.append(numbers)
            if len(calls) > step:
                raise KeyboardInterrupt
            return seed(*numbers)

        monkeypatch.setattr(loop, "_seed", counted)
        return monkeypatch.undo

    return at


@dataclass
class ToyPart:
    """frames: to yield; an exception is raised when its turn comes. read: how often each was asked for."""

    frames: list[Any]
    name: str = "toy"
    version: int = 0
    read: int = 0

    @property
    def inputs(self):
        return {"version": self.version}

    @property
    def labelled(self):
        return len(self)

    def __len__(self):
        return len(self.frames)

    def __iter__(self):
        for frame in self.frames:
            if isinstance(frame, Exception):
                raise frame
            self.read += 1
            yield frame


@pytest.fixture
def toy_part(make_frame) -> Callable[..., ToyPart]:
    """`toy_part(count)`: a part of so many labelled toy frames."""

    def part(count=3, **options):
        frames = [make_frame(seed, seed) for seed in range(count)]
        labelled = [replace(each, labels=np.full(len(each.points), number % 3, np.uint8))
                    for number, each in enumerate(frames)]
        return ToyPart(labelled, **options)

    return part
