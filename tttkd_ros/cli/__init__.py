"""The `tttkd` command and its subcommands."""

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
from tttkd_ros.cli.export import export
from tttkd_ros.cli.import_model import import_model
from tttkd_ros.cli.models import models
from tttkd_ros.cli.simulate import simulate
from tttkd_ros.cli.train import train_commands


def _one_of(commands: dict[str, Any]) -> Any:
    """Type from which tyro builds a choice of subcommands."""
    return Union[tuple(Annotated[Any, subcommand(name, constructor=f)] for name, f in commands.items())]  # noqa: UP007


COMMANDS = {"simulate": simulate, "convert": convert, "export": export, "import": import_model, "evaluate": evaluate,
            "benchmark": benchmark, "build-engine": build_engine, "models": models, "demo": demo}


def main() -> None:
    """Run the subcommand that the arguments name. Bad input ends with a one-line message, not a traceback."""
    try:
        description = "Test-time adaptation of LiDAR segmentation by distilling a 2D foundation model."
        train = subcommand("train", constructor=_one_of(train_commands(sys.argv[1:])),
                           description="Make what ships in models/, or a student of your own.")
        commands = Union[_one_of(COMMANDS), Annotated[Any, train]]  # noqa: UP007 (a type alias of calls)
        tyro.cli(commands, prog="tttkd", description=description)
    except (ValueError, OSError, FloatingPointError) as error:
        message = f"tttkd: {_message(error)}"
        Console(stderr=True).print(message, style="bold red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        Console(stderr=True).print("tttkd: interrupted", style="yellow")
        sys.exit(130)


def _message(error: Exception) -> str:
    """Text of an error. To errors of the operating system, which name the file only, it adds what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be used ({error.strerror}): name another file or folder"
    return str(error)

