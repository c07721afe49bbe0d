"""The settings that the trainings of a student share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from tttkd_ros.training.devices import Accelerator, Precision, Processes


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Settings that the trainings of a student share. Raises ValueError for bad values.

    Attributes:
        out: checkpoint to write.
        data: sources to train on, such as bags, sim:a2d2 or semantickitti:FOLDER:00-06.
        teacher: folder or name of the frozen 2D foundation model.
        teacher_input: height and width of its images in pixels. The nearest size that it takes is used.
        teacher_features: cached keeps the teacher's features on disk; computed keeps the images, and computes the
            features anew in each epoch.
        batch: sweeps per step, in each process.
        learning_rate: peak (AdamW).
        kd_points: visible points for L_2D in each sweep, drawn anew each time.
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

    # Settings that change no weight, so that another training can continue with others.
    FREE: ClassVar[tuple[str, ...]] = (
        "out", "cache", "workers", "save_every", "accelerator", "devices", "nodes", "threads", "teacher_features",
    )  # fmt: skip
    AT_LEAST_ONE: ClassVar[tuple[str, ...]] = ("batch", "kd_points", "save_every", "threads")
    AT_LEAST_ZERO: ClassVar[tuple[str, ...]] = ("workers", "seed", "learning_rate")

    out: Path
    data: tuple[str, ...]
    teacher: Path = Path("models/teacher")
    teacher_input: tuple[int, int] = (140, 392)
    teacher_features: Literal["cached", "computed"] = "cached"
    batch: int = 4
    learning_rate: float = 5e-3
    kd_points: int = 2048
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
        for names, least in ((self.AT_LEAST_ONE, 1), (self.AT_LEAST_ZERO, 0)):
            for name in names:
                if not least <= getattr(self, name) < math.inf:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate is {self.learning_rate}, expected more than 0")
        self.require_distinct("data")
        _ = self.processes  # it checks its own values

    def require_distinct(self, *names: str) -> None:
        """Raise ValueError if one of these settings names a source twice."""
        for name in names:
            texts = getattr(self, name)
            if len(set(texts)) < len(texts):
                raise ValueError(f"{name} is {' '.join(texts)}: expected each source once")

    @property
    def processes(self) -> Processes:
        return Processes(self.accelerator, self.devices, self.nodes, self.precision)

    def settings(self) -> dict[str, str]:
        """Return the settings that decide the weights, as text. An interrupted training continues with the same ones
        only, and the checkpoint states them."""
        given = {name: value for name, value in asdict(self).items() if name not in self.FREE}
        return {name: _text(value) for name, value in given.items()} | {"processes": str(self.processes.count)}


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={_text(each)}" for name, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
