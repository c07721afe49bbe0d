"""`tttkd build-engine`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def build_engine(
    *, model: Path | None = None, teacher: Path | None = None,
    engine: Literal["auto", "eager", "openvino", "tensorrt"] = "auto", device: str = "auto",
) -> None:
    """Build the engine that runs the teacher on this machine, so that the node finds it ready. Print its path.

    Args:
        model: student checkpoint, which determines the image size; the shipped one by default.
        teacher: teacher folder or hub name, the shipped one by default.
        engine: auto takes the fastest engine on this machine.
        device: auto, cpu, cuda, cuda:0, ...
    """
    import logging

    from tttkd_ros.adaptation import loading
    from tttkd_ros.devices import resolve_device
    from tttkd_ros.paths import STUDENT, TEACHER, shipped_path

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print(loading.build_teacher_engine(model or shipped_path(STUDENT), teacher or shipped_path(TEACHER), engine=engine,
                               device=resolve_device(device), threads=1))
