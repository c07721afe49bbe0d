"""Training of the image head: a linear classifier of the teacher's features, the 2D class branch of xMUDA's and
MM-TTA's test-time variants."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tttkd_ros.classes import UNLABELLED, load_class_set
from tttkd_ros.datasets.source import open_source
from tttkd_ros.files import require_writable
from tttkd_ros.teacher.foundation_model import load_teacher, nearest_input_size
from tttkd_ros.teacher.image_head import ImageHead, save_image_head
from tttkd_ros.training.batches import correspondences
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.training.devices import Accelerator, Processes, launch
from tttkd_ros.training.loop import Optimisation, print_digest, train
from tttkd_ros.training.losses import class_weights, cross_entropy
from tttkd_ros.training.preparation import FrameTeacher, prepare
from tttkd_ros.training.prepared import FrameSettings, PreparedFrame, read_frame


def train_image_head(
    out: Path = Path("models/image_head/image_head.safetensors"), *, data: tuple[str, ...] = ("sim:a2d2:60x5",),
    class_set: str = "outdoor10", teacher: Path = Path("models/teacher"),
    teacher_input: tuple[int, int] = TrainingConfig.teacher_input, points: int = 512, steps: int = 1000,
    batch: int = 4096, learning_rate: float = 1e-2, seed: int = 0, cache: Path | None = None, workers: int = 2,
    accelerator: Accelerator = "auto", threads: int = 1,
) -> None:
    """Train a linear classifier of the frozen teacher's features at labelled points.

    Args:
        out: file to write.
        data: labelled sources, as for `tttkd train student`.
        class_set: name of the classes, or a YAML file of one's own.
        teacher: folder or name of the frozen 2D foundation model.
        teacher_input: height and width of its images in pixels. The nearest size that it takes is used.
        points: labelled points that the camera sees, in each sweep. Their features are kept in memory.
        steps: gradient steps (AdamW, one cycle).
        batch: points per step.
        learning_rate: peak of the cycle.
        seed: of weights, batches and simulated drives.
        cache: folder for the prepared frames, which other trainings use again. By default a folder beside the file,
            which is removed when the training ends.
        workers: processes that prepare frames; 0 for none beside the training itself.
        accelerator: where the teacher's features are computed; auto takes a GPU if there is one.
        threads: CPU threads.
    """
    settings = dict(data=data, class_set=class_set, teacher=teacher, teacher_input=teacher_input, points=points,
                    steps=steps, batch=batch, learning_rate=learning_rate, seed=seed)
    require_writable(out)
    classes = load_class_set(class_set)
    parts = [part for text in data for part in open_source(text, classes, purpose="image head", seed=seed)]
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    foundation = load_teacher(teacher, input_size=nearest_input_size(teacher, teacher_input), engine="eager")
    frame_settings = FrameSettings(len(classes), (), foundation.grid, foundation.input_size)
    folder = cache or out.with_suffix(".frames")
    prepared = prepare(parts, folder, frame_settings, FrameTeacher.of(teacher, Processes(accelerator).device),
                       workers=workers)
    drawn = [(each.half(), label) for part in prepared
             for each, label in labelled_features(map(read_frame, part.paths()), points, seed)]
    if not sum(len(label) for _, label in drawn):
        raise ValueError(f"no camera sees a labelled point of {' '.join(data)}: name other --data")
    features, labels = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
    # Its statistics are those of the whole source.
    head = ImageHead(classes, foundation.dim, foundation.name).eval()
    head.norm.running_mean.copy_(features.float().mean(0))
    head.norm.running_var.copy_(features.float().var(0))
    weights = class_weights(torch.bincount(labels, minlength=len(classes)))
    objective = _Objective(head, weights)
    optimisation = Optimisation(steps, learning_rate, warm_up=0.1)
    launch(Processes("cpu"), train, objective, _Batches(features, labels, batch, seed), optimisation,
           title="image head", seed=seed)
    save_image_head(head.eval(), out, provenance(settings))
    if cache is None:
        shutil.rmtree(folder, ignore_errors=True)
    print_digest(out)


def provenance(settings: Mapping[str, object]) -> dict[str, str]:
    """Return what the file of an image head states about its making. settings: options of `train_image_head`."""
    return {"command": "tttkd train image-head"} | {
        name: " ".join(map(str, value)) if isinstance(value, tuple) else str(value) for name, value in settings.items()
    }


def labelled_features(frames: Iterable[PreparedFrame], points: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each frame, the teacher's features (M, dim) at visible, labelled points and their labels (M,) int64.

    frames: with the teacher's features. M is at most `points`, drawn at random.
    """
    generator = np.random.default_rng(seed)
    for frame in frames:
        sample = correspondences(frame, frame.maps.shape[1], generator)
        label = sample.labels[sample.visible]
        labelled = np.flatnonzero(label != UNLABELLED)
        chosen = torch.from_numpy(generator.permutation(labelled)[:points])
        yield frame.maps.flatten(0, 1)[sample.patch[chosen]].float(), label[chosen]


class _Drawn(NamedTuple):
    features: Tensor
    labels: Tensor


@dataclass(frozen=True, eq=False)
class _Batches(Dataset):
    features: Tensor
    labels: Tensor
    size: int
    seed: int

    def __getitem__(self, step: int) -> _Drawn:
        chosen = np.random.default_rng((self.seed, step)).integers(len(self.labels), size=self.size)
        return _Drawn(self.features[chosen].float(), self.labels[chosen])


class _Objective(nn.Module):
    def __init__(self, head: ImageHead, weights: Tensor):
        super().__init__()
        self.head = head
        self.register_buffer("weights", weights)

    def train(self, mode: bool = True) -> _Objective:
        super().train(mode)
        self.head.norm.eval()
        return self

    def forward(self, batch: _Drawn) -> dict[str, Tensor]:
        return {"loss": cross_entropy(self.head(batch.features), batch.labels, self.weights)}
