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
    "rotations": (1, 16),
    "seconds": (0.0, 60.0),
    "crop": (0.0, 100.0),
    "kd_points": (16, 1_000_000),
    "min_points": (1, 100_000),
    "min_alignment": (-2.0, 2.0),
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
        bn_momentum: minimum momentum of BatchNorm's statistics, which decays from 0.1 (DUA). 0 freezes them, as in the
            paper.
        steps: maximum number of gradient steps per frame.
        rotations: evenly spaced rotations of the cloud about the vertical that the steps are taken on in turn. The
            turn goes on from frame to frame.
        seconds: no further step on a frame is begun after so long; 0 for no limit.
        crop: edge of the cubes, metres: steps use only the points of cubes with a point that a camera sees. 0 uses the
            whole cloud, as in the paper.
        kd_points: maximum number of points in the loss of a step.
        min_points: minimum number of points in view of a camera.
        guard: check the alignment before each step (guard.py), and limit the steps on one scene.
        min_alignment: minimum of the mean alignment over the last sweeps. That of a single one must not be negative.
        patience: rejections in a row after which the guard pauses adaptation.
        scene_steps: maximum number of sweeps of one scene to train on.
        source_anchoring: share of the way back to the shipped weights after each step.

    Raises:
        ValueError: a value is outside its range.
    """

    enabled: bool = True
    stride: int = 5
    learning_rate: float = 0.3
    bn_momentum: float = 0.005
    steps: int = 4
    rotations: int = 4
    seconds: float = 0.5
    crop: float = 6.4
    kd_points: int = 16384
    min_points: int = 32
    guard: bool = True
    min_alignment: float = 0.006
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
    """Return the settings of the paper: frozen statistics, whole clouds, no guard, no scene limit, no anchoring.
    Stride, steps, rotations, learning rate and number of points stay as they are."""
    return replace(config, bn_momentum=0.0, crop=0.0, guard=False, source_anchoring=0.0)
