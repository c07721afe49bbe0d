"""The `tttkd` command: what can be done without a running node, and the demo."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Union

import tyro
from rich.console import Console
from tyro.conf import subcommand

from tttkd_ros.cli.benchmark import benchmark
from tttkd_ros.cli.build_engine import build_engine
from tttkd_ros.cli.convert import convert
from tttkd_ros.cli.demo import demo
from tttkd_ros.cli.evaluate import evaluate
from tttkd_ros.cli.simulate import simulate
from tttkd_ros.training.image_head_training import train_image_head
from tttkd_ros.training.joint_training import train_student
from tttkd_ros.training.teacher_training import train_teacher


def _one_of(commands: dict[str, Any]) -> Any:
    """The type that tyro reads a choice of functions from."""
    return Union[tuple(Annotated[Any, subcommand(name, constructor=f)] for name, f in commands.items())]  # noqa: UP007


TRAIN = {"teacher": train_teacher, "student": train_student, "image-head": train_image_head}
COMMANDS = Union[  # noqa: UP007 (a type alias of calls)
    _one_of(
        {
            "simulate": simulate, "convert": convert, "evaluate": evaluate, "benchmark": benchmark,
            "build-engine": build_engine, "demo": demo,
        }
    ),
    Annotated[Any, subcommand("train", constructor=_one_of(TRAIN), description="Make what ships in models/.")],
]


def main() -> None:
    """Run the command that the arguments name; a mistake in its input ends with one line, not a traceback."""
    try:
        tyro.cli(
            COMMANDS,
            prog="tttkd",
            description="Test-time adaptation of LiDAR segmentation by distilling a 2D foundation model.",
        )
    except (ValueError, OSError, FloatingPointError) as error:
        told = f"tttkd: {_told(error)}"
        Console(stderr=True).print(told, style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("tttkd: interrupted", style="yellow")
        sys.exit(130)


def _told(error: Exception) -> str:
    """The system's own errors name the file, but not what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}): name another file or folder"
    return str(error)

