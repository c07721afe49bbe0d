"""A frame as training reads it from disk: points, labels, the patch of each point, and the teacher's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tttkd_ros.classes import UNLABELLED
from tttkd_ros.features import select
from tttkd_ros.frame import Frame
from tttkd_ros.geometry.projection import patch_index, project
from tttkd_ros.segmenter.points import Points
from tttkd_ros.teacher.preprocessing import resized
from tttkd_ros.tensor_files import read_tensors, write_tensors

_FORMAT = "tttkd_ros frame 1"
_FEATURE = "feature."


@dataclass(frozen=True)
class FrameSettings:
    """What of a frame is prepared.

    classes: number of them. features: names of those that the student takes. grid: rows and columns of the teacher's
    patches, and input_size: (height, width) of its images in pixels; None if no teacher takes part. labelled: leave out
    sweeps without labels.
    """

    classes: int
    features: tuple[str, ...] = ()
    grid: tuple[int, int] | None = None
    input_size: tuple[int, int] | None = None
    labelled: bool = False


@dataclass(frozen=True, eq=False)
class PreparedFrame:
    """A sweep without the points that no student can take: those not finite, and those at (0, 0, 0).

    points: N, z up. labels: (N,) uint8, or None. patches: (views, N) int32, row * columns + column of the patch that
    each point projects to, -1 if the camera does not see it. images: (views, height, width, 3) uint8, or None.
    maps: (views, rows * columns, dim) float16, the teacher's features, or None.
    """

    points: Points
    labels: Tensor | None
    patches: Tensor
    images: Tensor | None = None
    maps: Tensor | None = None


def prepare_frame(frame: Frame, settings: FrameSettings) -> PreparedFrame:
    """Project the points of a frame on the teacher's patches, and resize its images.

    Raises ValueError if labels and points do not belong together, or a feature is missing.
    """
    points = frame.upright
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points have shape {points.shape}, expected (N, 3)")
    usable = np.isfinite(points).all(1) & points.any(1)
    labels = None if frame.labels is None else _checked(frame.labels, len(points), settings.classes)
    values = select(settings.features, points, frame.upright_features)
    views = frame.views if settings.grid else ()
    projectable = torch.tensor(frame.projectable)  # a copy: the arrays of a bag are read-only
    patches = torch.empty(len(views), int(usable.sum()), dtype=torch.int32)
    for row, view in zip(patches, views, strict=True):
        projection = project(projectable, view.camera, view.camera_from_lidar)
        row[:] = patch_index(projection, view.camera, settings.grid)[torch.from_numpy(usable)]
    return PreparedFrame(
        Points(torch.from_numpy(points[usable]), {name: torch.from_numpy(each[usable])
                                                  for name, each in values.items()}),
        None if labels is None else torch.from_numpy(labels[usable]), patches,
        images=_images([view.image for view in views], settings.input_size) if settings.grid else None,
    )


def with_maps(frame: PreparedFrame, teacher) -> PreparedFrame:
    """Replace the images of a frame by the features that a `FoundationModel` computes of them."""
    maps = teacher.of_resized(frame.images).flatten(1, 2).half().cpu()
    return replace(frame, images=None, maps=maps)


def write_frame(path: Path, frame: PreparedFrame) -> None:
    """Write a frame atomically. Raises Unwritable."""
    optional = {"labels": frame.labels, "images": frame.images, "maps": frame.maps}
    write_tensors(path, _FORMAT, {
        "xyz": frame.points.xyz, "patches": frame.patches,
        **{_FEATURE + name: values for name, values in frame.points.features.items()},
        **{name: tensor for name, tensor in optional.items() if tensor is not None},
    })


def read_frame(path: Path) -> PreparedFrame:
    """Map a frame's file into memory. Raises ValueError if it is damaged or missing."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: delete the folder {path.parent}, and the same command prepares it again")
    try:
        _, tensors = read_tensors(path, _FORMAT)
        features = {name.removeprefix(_FEATURE): tensor for name, tensor in tensors.items()
                    if name.startswith(_FEATURE)}
        return PreparedFrame(Points(tensors["xyz"], features), tensors.get("labels"), tensors["patches"],
                             tensors.get("images"), tensors.get("maps"))
    except (ValueError, KeyError) as error:
        raise ValueError(f"the prepared frame {path} is damaged: delete the folder {path.parent}, and the same command "
                         f"prepares it again ({error})") from error


def _checked(labels: np.ndarray, points: int, classes: int) -> np.ndarray:
    if labels.shape != (points,):
        raise ValueError(f"labels have shape {labels.shape} for {points} points, expected one for each point")
    wrong = labels[(labels >= classes) & (labels != UNLABELLED)]
    if wrong.size:
        raise ValueError(f"label {wrong[0]} is not below {classes} nor {UNLABELLED} (unlabelled): map the labels to "
                         "the class set")
    return labels.astype(np.uint8)


def _images(images: Sequence[np.ndarray], size: tuple[int, int]) -> Tensor:
    if not images:
        return torch.empty(0, *size, 3, dtype=torch.uint8)
    return torch.from_numpy(np.stack([resized(image, size) for image in images]))
