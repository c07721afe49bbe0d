"""`tttkd import`: write another project's checkpoint as a student's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def import_model(
    project: Literal["pointcept"], checkpoint: Path, out: Path, /, *, backbone: str, class_set: str,
    inputs: dict[str, float], voxel_size: float = 0.05,
) -> None:
    """Write a segmentor of another project as a student.

    The student segments, frozen, because it was not trained with a teacher. `tttkd train adapter-head` makes it
    adaptable.

    Example: `tttkd import pointcept model_best.pth student.safetensors --backbone spunet34c
    --class-set semantickitti19 --inputs position 1 intensity 1`.

    Args:
        project: the one that made the checkpoint.
        checkpoint: its file, Pointcept's .pth.
        out: student checkpoint to write.
        backbone: network of the checkpoint: spunet34c for SpUNet-v1m1, ptv3 for PT-v3m1.
        class_set: its classes, in the order of its head: semantickitti19, nuscenes16, waymo22, outdoor10, or your own
            file.
        inputs: features of a point in the order of the training (feat_keys; position is coord, intensity is strength),
            each with what its values are multiplied by. Pointcept divides the strength of nuScenes by 255; 0.00392 does
            so, too.
        voxel_size: grid size of the training, metres.
    """
    from tttkd_ros.classes import load_class_set
    from tttkd_ros.files import require_writable
    from tttkd_ros.segmenter.checkpoint import save_student
    from tttkd_ros.segmenter.pointcept import import_student

    require_writable(out)
    student = import_student(checkpoint, backbone, load_class_set(class_set), voxel_size, inputs)
    save_student(student, out, {"data": "Pointcept", "checkpoint": checkpoint.name})
    print(f"{out}: {backbone} with {len(student.config.class_set)} classes, "
          f"{sum(parameter.numel() for parameter in student.parameters()) / 1e6:.1f} M parameters")
