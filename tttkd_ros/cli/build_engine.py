"""`tttkd build-engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def build_engine(
    *,
    model: Path | None = None,
    teacher: Path | None = None,
    engine: Literal["auto", "eager", "openvino", "tensorrt"] = "auto",
    device: str = "auto",
) -> None:
    """Build what is to run the teacher on this machine and keep it, so that the node need not; say where it lies.

    Args:
        model: student checkpoint, which gives the size of the images; the one that ships if not given.
        teacher: the teacher's directory; the one that ships if not given.
        engine: auto takes the fastest that this machine has.
        device: auto, cpu, cuda, cuda:0, ...
    """
    import logging

    from tttkd_ros.adaptation import loading
    from tttkd_ros.devices import resolve_device
    from tttkd_ros.evaluation.models import STUDENT, TEACHER
    from tttkd_ros.paths import shipped_path

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    told = loading.build_engine(
        model or shipped_path(STUDENT), teacher or shipped_path(TEACHER), engine=engine, device=resolve_device(device), threads=1
    )
    print(told)
