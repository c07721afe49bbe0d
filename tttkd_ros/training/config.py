"""The settings of a student's training: the options of `tttkd train student`, and the keys of a recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tttkd_ros.features import WIDTHS
from tttkd_ros.training.augmentation import Augmentation
from tttkd_ros.training.devices import Accelerator, Precision, Processes
from tttkd_ros.training.loop import Schedule

_AT_LEAST_ONE = ("epochs", "batch", "kd_points", "save_every", "validate_every", "threads")
_AT_LEAST_ZERO = ("steps", "workers", "seed", "learning_rate", "block_learning_rate", "weight_decay", "clip",
                  "distillation", "lovasz")
# Settings that change no weight, so that another training can continue with others.
_FREE = ("recipe", "out", "validation", "validate_every", "cache", "workers", "save_every", "accelerator", "devices",
         "nodes", "threads", "teacher_features")


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a student's training. Raises ValueError for bad values.

    Attributes:
        recipe: name of a file in config/training/, or path of one. Its keys are these options, and an option that is
            given wins.
        out: checkpoint to write.
        data: labelled sources to train on, such as sim:a2d2 or semantickitti:FOLDER:00-06.
        validation: labelled sources whose mIoU is measured during the training.
        distil_first: train in two stages, as MuDDoS does. The first half of the steps distils the teacher's features on
            these sources, which need no labels. The second half trains the class head on the data's labels, and the
            backbone is frozen.
        class_set: name of the classes, or a YAML file of one's own.
        teacher: folder or name of the frozen 2D foundation model.
        teacher_input: height and width of its images in pixels. The nearest size that it takes is used.
        teacher_features: cached keeps the teacher's features on disk; computed keeps the images, and computes the
            features anew in each epoch.
        backbone: the 3D network, scn or another one that `tttkd models` lists.
        options: of the backbone, name=value each, such as channels=16 levels=5 or widths=[16,32]. Those left out have
            their defaults.
        features: of each point, that the backbone takes, with a factor if wanted: intensity=0.0039. Normals are
            estimated. By default only the geometry counts.
        voxel_size: metres.
        point_range: smallest x, y, z and largest x, y, z of the points to train on, metres. By default all.
        epochs: passes over the data.
        steps: gradient steps instead of epochs; 0 for none.
        batch: sweeps per step, in each process.
        schedule: of the learning rate. one-cycle rises and falls; steps divides it by 10 after 80 % and 90 % of all
            steps.
        learning_rate: peak (AdamW).
        block_learning_rate: peak of the blocks of a transformer; 0 for the same.
        warm_up: share of the steps until the peak of one-cycle.
        div: the first rate of one-cycle is the peak divided by this.
        final_div: the last rate of one-cycle is the first one divided by this.
        weight_decay: of AdamW.
        clip: largest norm of the gradient; 0 does not clip it.
        distillation: weight of L_2D; 0 trains a student without a teacher on labels alone (Source-Only), unless
            distil_first is given.
        kd_points: visible points for L_2D in each sweep, drawn anew each time.
        class_weights: of the cross-entropy. enet counts rare classes more (ENet's logarithmic weights).
        label_smoothing: of the cross-entropy.
        lovasz: weight of the Lovasz-Softmax loss.
        augmentation: of the clouds.
        validate_every: epochs between two validations.
        cache: folder for the prepared frames, which later trainings use again. By default a folder beside the
            checkpoint, which is removed when the training ends.
        workers: processes that prepare frames, and that draw batches; 0 for none beside the training itself.
        save_every: steps between two writes of the state that an interrupted training continues from.
        accelerator: where to train; auto takes a GPU if there is one.
        devices: processes of this machine, one for each GPU.
        nodes: machines. Start the same command on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK set, and the cache
            on a disk that they share.
        precision: of the products; 16-mixed needs a GPU. The backbone computes in 32 bits with bf16-mixed.
        seed: of weights, batches and simulated drives.
        threads: CPU threads of each process.
    """

    recipe: str = "simulated"
    out: Path = Path("models/student/student.safetensors")
    data: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    distil_first: tuple[str, ...] = ()
    class_set: str = "outdoor10"
    teacher: Path = Path("models/teacher")
    teacher_input: tuple[int, int] = (140, 392)
    teacher_features: Literal["cached", "computed"] = "cached"
    backbone: str = "scn"
    options: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    voxel_size: float = 0.1
    point_range: tuple[float, ...] = ()
    epochs: int = 8
    steps: int = 0
    batch: int = 4
    schedule: Schedule = "one-cycle"
    learning_rate: float = 5e-3
    block_learning_rate: float = 0.0
    warm_up: float = 0.3
    div: float = 10.0
    final_div: float = 1000.0
    weight_decay: float = 1e-4
    clip: float = 10.0
    distillation: float = 1.0
    kd_points: int = 2048
    class_weights: Literal["enet", "none"] = "enet"
    label_smoothing: float = 0.0
    lovasz: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    validate_every: int = 1
    cache: Path | None = None
    workers: int = 2
    save_every: int = 100
    accelerator: Accelerator = "auto"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "32-true"
    seed: int = 0
    threads: int = 1

    def __post_init__(self):
        for names, least in ((_AT_LEAST_ONE, 1), (_AT_LEAST_ZERO, 0)):
            for name in names:
                if not least <= getattr(self, name) < math.inf:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, expected more than 0")
        if not 0 <= self.label_smoothing < 1 or not 0 < self.warm_up < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing} and warm_up is {self.warm_up}, expected "
                             "shares below 1")
        if not self.div >= 1 or not self.final_div >= 1:
            raise ValueError(f"div is {self.div} and final_div is {self.final_div}, expected at least 1")
        box = self.point_range
        if box and (len(box) != 6 or not all(low < high for low, high in zip(box[:3], box[3:], strict=True))):
            raise ValueError(f"point_range is {box}, expected x, y, z of the smallest corner, then of the largest one")
        for name in ("data", "validation", "distil_first"):
            texts = getattr(self, name)
            if len(set(texts)) < len(texts):
                raise ValueError(f"{name} is {' '.join(texts)}: expected each source once")
        _ = self.inputs, self.processes  # they check their own values

    @property
    def inputs(self) -> dict[str, float]:
        """Feature -> what its values are multiplied by."""
        inputs = {}
        for text in self.features:
            name, _, factor = text.partition("=")
            if name not in WIDTHS or name in inputs:
                raise ValueError(f"features is {' '.join(self.features)}, expected each once of {', '.join(WIDTHS)}")
            try:
                inputs[name] = float(factor or 1)
            except ValueError as error:
                raise ValueError(f"feature {text!r}: expected NAME or NAME=FACTOR") from error
        return inputs

    @property
    def processes(self) -> Processes:
        return Processes(self.accelerator, self.devices, self.nodes, self.precision)

    @property
    def uses_teacher(self) -> bool:
        return self.distillation > 0 or bool(self.distil_first)

    def settings(self) -> dict[str, str]:
        """Return the settings that decide the weights, as text. An interrupted training continues with the same ones
        only, and the checkpoint states them."""
        given = {name: value for name, value in asdict(self).items() if name not in _FREE}
        return {name: _text(value) for name, value in given.items()} | {"processes": str(self.processes.count)}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_text(each)}" for name, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
