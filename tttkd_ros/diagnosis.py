"""Likely causes of missing labels and refused training steps: one line each, with the measured value and the remedy.

Replay and the node share these texts (those about clocks: messages/clocks.py). Each function returns an empty string if
it finds nothing wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.projection import project
from tttkd_ros.geometry.transforms import inverse

SAMPLE = 4096  # points that stand for a cloud
MIN_IN_RANGE = 0.1  # share of the returns; below, almost nothing is in range
UNITS = {"centimetres": 0.01, "millimetres": 0.001}
MIN_EXPLAINED = 0.9  # share of the returns that a cause must bring into range
MIN_SEEN = 0.01  # share of the points that a cause must bring into the image
FAR_CAMERA_M = 20.0  # no camera sits further from its LiDAR
OPTICAL_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # REP-103
REASONS = 3  # of refused steps that are named
MIN_REFUSED = 0.9  # share from which nearly every step is refused, or sweep without an image


class Step(Protocol):
    """A `StepReport`, or the recording of one."""

    accepted: bool
    skipped: bool
    reason: str


def kind_of(text: str) -> str:
    """Return a text with its numbers replaced by #. Two texts are of one kind if they differ in numbers only."""
    return re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", text)


def explain_range(points: np.ndarray, max_range: float) -> str:
    """Why almost no point is in range. points: (N, 3), metres, LiDAR frame. max_range: metres along each axis."""
    if not len(points):
        return ""
    if len(points) > SAMPLE:  # drawn at random: every n-th point could be of one ring
        points = points[np.random.default_rng(0).integers(len(points), size=SAMPLE)]
    returns = points[np.isfinite(points).all(1) & points.any(1)].astype(np.float64)
    if not len(returns):
        return "no point has a return, all are at (0, 0, 0) or not finite: is the sensor covered, or still starting?"
    share = _share_in_range(returns, max_range)
    if share >= MIN_IN_RANGE:
        return ""
    found = f"{100 * share:.1f} % of the points are in range ({max_range:.0f} m from the sensor along each axis)"
    centre = np.median(returns, 0)
    units = [name for name, scale in UNITS.items() if _share_in_range(scale * returns, max_range) >= MIN_EXPLAINED]
    whole = (returns == np.rint(returns)).all(1).mean() >= MIN_EXPLAINED  # as depth cameras give millimetres
    if _share_in_range(returns - centre, max_range) >= MIN_EXPLAINED and not (units and whole):
        return (f"{found}: they look like points in the map's frame, around {_place(centre)} m: use the cloud in the "
                "sensor's own frame")
    if units:
        return f"{found}: they look like {' or '.join(units)}: have the driver publish metres (REP-103)"
    distance = float(np.median(np.linalg.norm(returns, axis=1)))
    return f"{found}, their median distance is {distance:.0f} m: expected metres in the sensor's own frame"


def explain_view(frame: Frame, max_range: float) -> str:
    """Why hardly a point of the frame is in view of a camera. max_range: see `explain_range`."""
    if not frame.views:
        return "; ".join(f"{camera}: {reason}" for camera, reason in frame.missing.items())
    if cause := explain_range(frame.points, max_range):
        return cause
    points = torch.tensor(frame.projectable)
    points = points[(points.abs() < max_range).all(1)]
    return "; ".join(f"{view.name} {_explain_extrinsics(view, points)}" for view in frame.views)


def with_cause(reason: str, cause: str) -> str:
    return f"{reason}: {cause}" if cause else reason


def explain_steps(steps: Iterable[Step], least: int = 1) -> str:
    """Why (nearly) every step was refused: the most frequent reasons, as they were last given.

    least: steps it takes to say so. Steps that rested do not count.
    """
    steps = [step for step in steps if not step.skipped]
    refused = [step for step in steps if not step.accepted]
    if len(steps) < least or not refused or len(refused) < MIN_REFUSED * len(steps):
        return ""
    last = {kind_of(step.reason): step.reason for step in refused}
    counts = Counter(kind_of(step.reason) for step in refused).most_common(REASONS)
    reasons = [f"{count} x {last[kind]}" if len(counts) > 1 else last[kind] for kind, count in counts]
    return f"{len(refused)} of {len(steps)} steps were refused: {'; '.join(reasons)}"


def explain_sweeps(problems: Sequence[str]) -> str:
    """What was wrong with most sweeps, as it was last said. problems: of each sweep, empty for none."""
    wrong = [problem for problem in problems if problem]
    return f"{len(wrong)} of {len(problems)} sweeps: {wrong[-1]}" if 2 * len(wrong) > len(problems) else ""


def explain_cameras(missing: Sequence[Mapping[str, str]]) -> list[str]:
    """Each camera that nearly every sweep lacks, with the last reason. missing: of each sweep, see `Frame.missing`."""
    counts = Counter(camera for lacking in missing for camera in lacking)
    last = {camera: reason for lacking in missing for camera, reason in lacking.items()}
    return [f"{camera} has no image for {count} of {len(missing)} sweeps: {last[camera]}"
            for camera, count in counts.items() if count >= MIN_REFUSED * len(missing)]


def _share_in_range(points: np.ndarray, max_range: float) -> float:
    return float((np.abs(points) < max_range).all(1).mean())


def _explain_extrinsics(view: View, points: torch.Tensor) -> str:
    """points: (N, 3), those in range."""
    place = view.camera_from_lidar
    frame = f"camera frame {view.frame_id!r}" if view.frame_id else "the camera's frame"
    causes = {
        f"{frame} looks like a body frame (x forward): name the optical frame (z forward, REP-103), or give a rig":
            OPTICAL_FROM_BODY @ place,
        "its transform looks inverted: camera_from_lidar takes LiDAR points to the camera, TF holds the camera's pose":
            inverse(place),
    }
    distance = float(np.linalg.norm(place[:3, 3]))
    if distance > FAR_CAMERA_M:
        metres = place.copy()
        metres[:3, 3] *= 0.001
        causes[f"it is {distance:.0f} m from the LiDAR, which looks like millimetres: give metres"] = metres
    seen = _seen(view, place, points)
    found = {cause: _seen(view, other, points) for cause, other in causes.items()}
    found = {cause: count for cause, count in found.items() if count > max(10 * seen, MIN_SEEN * len(points))}
    sees = f"sees {seen} of {len(points)} points"
    if found:
        # Upright images first: with a wrong turn, too, a camera sees points of a LiDAR that looks all around.
        best = max(found, key=lambda cause: (causes[cause][1, 2] < -0.5, found[cause]))
        return f"{sees}: {best}; {found[best]} would be seen"
    centre, axis = inverse(place)[:3, 3], place[2, :3]
    return (f"{sees} from {_place(centre)} m, looking along {_place(axis)} in the LiDAR's frame: are its extrinsics "
            "right?")


def _seen(view: View, camera_from_lidar: np.ndarray, points: torch.Tensor) -> int:
    return int(project(points, view.camera, camera_from_lidar, occlusion=False).visible.sum())


def _place(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in vector) + ")"
