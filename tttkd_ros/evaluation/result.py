"""What a run over a drive left behind: a confusion matrix for every sweep, and all figures that derive from them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tttkd_ros.evaluation.metrics import class_iou, mean_iou, windowed_mean_iou


@dataclass(frozen=True, eq=False)
class Result:
    """One method's run over one drive.

    stamps: (S,) int64 nanoseconds. matrices: (S, 2, C, C + 1) int64, rows truth; index 0 of the second axis holds the
    points that no camera saw, index 1 those that one did. steps_tried, steps_accepted: adaptation jobs.
    losses: (stamp, loss) of the accepted steps.
    """

    name: str
    class_names: tuple[str, ...]
    stamps: np.ndarray
    matrices: np.ndarray
    settings: dict[str, float | int | str | None] = field(default_factory=dict)
    steps_tried: int = 0
    steps_accepted: int = 0
    rejections: dict[str, int] = field(default_factory=dict)
    losses: tuple[tuple[int, float], ...] = ()

    @property
    def sweeps(self) -> int:
        return len(self.stamps)

    def matrix(self, sweeps: slice = slice(None), *, visible: bool | None = None) -> np.ndarray:
        """One (C, C + 1) matrix over `sweeps`: of all points, or of those a camera saw or did not see."""
        groups = slice(None) if visible is None else slice(int(visible), int(visible) + 1)
        return self.matrices[sweeps, groups].sum((0, 1))

    def miou(self, sweeps: slice = slice(None), *, visible: bool | None = None) -> float:
        """mIoU in per cent of `matrix(sweeps, visible=visible)`."""
        return mean_iou(self.matrix(sweeps, visible=visible))

    @property
    def second_half(self) -> slice:
        return slice(self.sweeps // 2, None)

    def curve(self, window: int) -> np.ndarray:
        """(S,) mIoU in per cent over the `window` sweeps ending at each sweep."""
        return windowed_mean_iou(self.matrices.sum(1), window)

    def summary(self) -> dict:
        """Plain, reproducible values for a JSON file; figures in per cent, None where there was no truth."""
        iou = 100.0 * class_iou(self.matrix())
        return {
            "method": self.name,
            "settings": self.settings,
            "sweeps": self.sweeps,
            "miou": _rounded(self.miou()),
            "miou_second_half": _rounded(self.miou(self.second_half)),
            "miou_visible": _rounded(self.miou(visible=True)),
            "miou_not_visible": _rounded(self.miou(visible=False)),
            "iou": {name: _rounded(value) for name, value in zip(self.class_names, iou, strict=True)},
            "steps_tried": self.steps_tried,
            "steps_accepted": self.steps_accepted,
            "rejections": self.rejections,
        }


def _rounded(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
