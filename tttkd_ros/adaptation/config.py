"""The settings of test-time training: one default per value, checked once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real

# Lowest and highest value of every numeric setting, for ROS parameters and command-line options alike.
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
    "source_anchoring": (0.0, 1.0),
}


@dataclass(frozen=True)
class TTTConfig:
    """Settings of a test-time training step. The defaults were chosen on validation drives (docs/simulation.md).

    Args:
        enabled: adapt at all.
        stride: one step every so many sweeps.
        learning_rate: of plain SGD. The paper takes 0.1 outdoors.
        bn_momentum: minimum BatchNorm momentum. It decays from 0.1 (DUA). 0 freezes the statistics, as in the paper.
        steps: gradient steps per frame.
        kd_points: maximum number of points in the loss of a step.
        min_points: minimum number of points in view of a camera.
        guard: check each step on held-out points (guard.py), shorten long gradients and limit the steps on one scene.
        min_alignment: minimum alignment, mean over the last steps.
        max_drop: maximum drop of the held-out cosine below its recent mean.
        max_gradient: maximum gradient norm, as a multiple of the recent median. Longer gradients are shortened to it.
        patience: rejections in a row after which the guard pauses adaptation.
        scene_steps: maximum number of gradient steps on one scene.
        source_anchoring: share of the way back to the shipped weights after each step.

    Raises:
        ValueError: a value is outside its range.
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
    source_anchoring: float = 0.0

    def __post_init__(self):
        for name, (low, high) in RANGES.items():
            value, kind = getattr(self, name), Integral if isinstance(low, int) else Real
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                number = "a whole number" if kind is Integral else "a number"
                raise ValueError(f"{name} is {value!r}, expected {number} from {low:g} to {high:g}")


def paper_config(config: TTTConfig) -> TTTConfig:
    """Return the settings of the paper: frozen statistics, no guard, no scene limit, no shortened gradients, no
    anchoring. Stride, steps, learning rate and number of points stay as they are."""
    return replace(config, bn_momentum=0.0, guard=False, source_anchoring=0.0)
