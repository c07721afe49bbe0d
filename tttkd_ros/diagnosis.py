"""Likely causes of missing labels and rejected steps: the measured value and the remedy, or an empty string."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.projection import project
from tttkd_ros.geometry.transforms import inverse

if TYPE_CHECKING:
    from tttkd_ros.adaptation.adapter import StepReport

SAMPLE = 4096  # points that are tested of a cloud
MIN_IN_RANGE = 0.1  # fraction of the returns; below, the range is reported
UNITS = {"centimetres": 0.01, "millimetres": 0.001}
MIN_EXPLAINED = 0.9  # fraction of the returns that a cause must bring into range
MIN_SEEN = 0.01  # fraction of the points that a cause must bring into the image
MAX_CAMERA_M = 20.0  # largest plausible distance of a camera from the LiDAR
OPTICAL_FROM_BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])  # REP-103
MAX_REASONS = 3  # of rejected steps that are listed
MIN_REFUSED = 0.9  # fraction of rejected steps, or of sweeps without an image, that is reported


def kind_of(text: str) -> str:
    """A text with its numbers replaced by #. Two texts are of one kind if they differ in numbers only."""
    return re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", text)


def with_cause(reason: str, cause: str) -> str:
    return f"{reason}: {cause}" if cause else reason


def explain_range(points: np.ndarray, max_range: float) -> str:
    """Why almost no point (N, 3), metres, LiDAR frame, is within `max_range` metres along each axis."""
    if not len(points):
        return ""
    if len(points) > SAMPLE:  # at random, because every n-th point may be of one ring
        points = points[np.random.default_rng(0).integers(len(points), size=SAMPLE)]
    returns = points[np.isfinite(points).all(1) & points.any(1)].astype(np.float64)
    if not len(returns):
        return "no point has a return, all are at (0, 0, 0) or not finite: is the sensor covered, or still starting?"
    in_range = _in_range(returns, max_range)
    if in_range >= MIN_IN_RANGE:
        return ""
    found = f"{100 * in_range:.1f} % of the points are in range ({max_range:.0f} m from the sensor along each axis)"
    centre = np.median(returns, 0)
    units = [name for name, scale in UNITS.items() if _in_range(scale * returns, max_range) >= MIN_EXPLAINED]
    whole = (returns == np.rint(returns)).all(1).mean() >= MIN_EXPLAINED  # like a depth camera's millimetres
    if _in_range(returns - centre, max_range) >= MIN_EXPLAINED and not (units and whole):
        return (f"{found}: they look like points in the map's frame, around {_vector(centre)} m: use the cloud in the "
                "sensor's own frame")
    if units:
        return f"{found}: they look like {' or '.join(units)}: have the driver publish metres (REP-103)"
    distance = float(np.median(np.linalg.norm(returns, axis=1)))
    return f"{found}, their median distance is {distance:.0f} m: expected metres in the sensor's own frame"


def explain_view(frame: Frame, max_range: float) -> str:
    """Why the cameras see almost no point of the frame. max_range: metres along each axis."""
    if not frame.views:
        return "; ".join(f"{camera}: {reason}" for camera, reason in frame.missing.items())
    if cause := explain_range(frame.points, max_range):
        return cause
    points = torch.tensor(frame.projectable)
    points = points[(points.abs() < max_range).all(1)]
    return "; ".join(f"{view.name} {_explain_extrinsics(view, points)}" for view in frame.views)


def explain_steps(steps: Iterable[StepReport], min_steps: int = 1) -> str:
    """Why (nearly) all of at least `min_steps` steps, skipped ones apart, were rejected: the most frequent reasons."""
    steps = [step for step in steps if not step.skipped]
    refused = [step for step in steps if not step.accepted]
    if len(steps) < min_steps or not refused or len(refused) < MIN_REFUSED * len(steps):
        return ""
    last = {kind_of(step.reason): step.reason for step in refused}
    counts = Counter(kind_of(step.reason) for step in refused).most_common(MAX_REASONS)
    reasons = [f"{count} x {last[kind]}" if len(counts) > 1 else last[kind] for kind, count in counts]
    return f"{len(refused)} of {len(steps)} steps were refused: {'; '.join(reasons)}"


def explain_sweeps(problems: Sequence[str]) -> str:
    """The last problem, if most sweeps had one. problems: of each sweep, empty for none."""
    found = [problem for problem in problems if problem]
    return f"{len(found)} of {len(problems)} sweeps: {found[-1]}" if 2 * len(found) > len(problems) else ""


def explain_cameras(missing: Sequence[Mapping[str, str]]) -> list[str]:
    """Each camera that nearly every sweep lacks, with the last reason. missing: `Frame.missing` of each sweep."""
    counts = Counter(camera for reasons in missing for camera in reasons)
    last = {camera: reason for reasons in missing for camera, reason in reasons.items()}
    return [f"{camera} has no image for {count} of {len(missing)} sweeps: {last[camera]}"
            for camera, count in counts.items() if count >= MIN_REFUSED * len(missing)]


def _in_range(points: np.ndarray, max_range: float) -> float:
    """The fraction of the points that is in range."""
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
    if distance > MAX_CAMERA_M:
        metres = place.copy()
        metres[:3, 3] *= 0.001
        causes[f"it is {distance:.0f} m from the LiDAR, which looks like millimetres: give metres"] = metres
    seen = _count_seen(view, place, points)
    found = {cause: _count_seen(view, other, points) for cause, other in causes.items()}
    found = {cause: count for cause, count in found.items() if count > max(10 * seen, MIN_SEEN * len(points))}
    sees = f"sees {seen} of {len(points)} points"
    if found:
        # Upright images first: a wrongly rotated camera sees points of a spinning LiDAR, too.
        best = max(found, key=lambda cause: (causes[cause][1, 2] < -0.5, found[cause]))
        return f"{sees}: {best}; {found[best]} would be seen"
    centre, axis = inverse(place)[:3, 3], place[2, :3]
    return (f"{sees} from {_vector(centre)} m, looking along {_vector(axis)} in the LiDAR's frame: are its extrinsics "
            "right?")


def _count_seen(view: View, camera_from_lidar: np.ndarray, points: torch.Tensor) -> int:
    return int(project(points, view.camera, camera_from_lidar, occlusion=False).visible.sum())


def _vector(vector: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.1f}" for value in vector) + ")"
