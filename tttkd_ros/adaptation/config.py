"""What may be changed about adaptation while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

# Lowest and highest value of every numeric setting; the node's parameters and the command line take theirs from here.
RANGES: dict[str, tuple[float, float]] = {
    "stride": (1, 1000),
    "learning_rate": (1e-5, 10.0),
    "bn_momentum": (0.0, 1.0),
    "steps": (1, 200),
    "kd_points": (16, 1_000_000),
    "min_points": (1, 100_000),
    "min_alignment": (-2.0, 2.0),
    "max_drop": (0.0, 2.0),
    "max_gradient": (0.01, 1e6),
    "patience": (1, 1_000_000),
    "scene_steps": (1, 1_000_000),
    "pull": (0.0, 1.0),
}


@dataclass(frozen=True)
class TTTConfig:
    """Settings of a test-time training step; a change applies from the next step on.

    stride: a step every so many sweeps. learning_rate: of plain SGD; the default is what validation drives of the
    simulated target favoured for the student that ships (docs/simulation.md), and 0.1 is the paper's choice outdoors.
    bn_momentum: the least share by which BatchNorm's running statistics go towards those of each sweep handed in, after
    more in the first ones, as DUA has it; 0, as in the paper, freezes them. steps: gradient steps per frame. kd_points:
    points sampled for the loss in each. min_points: a frame with fewer points in view is left alone.

    guard: whether a step needs the evidence of points held out of it (guard.py). min_alignment: on average over the
    last steps. max_drop: of the held-out cosine below what is usual. max_gradient: norm, in times the usual; longer
    gradients are shortened to it. patience: objections in a row until adaptation pauses itself and only looks on.
    scene_steps: gradient steps on one scene, at most, before it has to change.
    pull: share of the way back to the shipped weights after each step.
    """

    enabled: bool = True
    stride: int = 5
    learning_rate: float = 1.0
    bn_momentum: float = 0.005
    steps: int = 1
    kd_points: int = 16384
    min_points: int = 32
    guard: bool = True
    min_alignment: float = 0.015
    max_drop: float = 0.25
    max_gradient: float = 1.0
    patience: int = 10
    scene_steps: int = 20
    pull: float = 0.0

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value, kind = getattr(self, name), Integral if isinstance(low, int) else Real
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                whole = "a whole number" if kind is Integral else "a number"
                raise ValueError(f"{name} is {value!r}, expected {whole} from {low:g} to {high:g}")
