"""Run the node for hours: sweeps at a fixed rate, many of them damaged, while faults are injected around it.

The sensors and the node are separate processes. Everything that is sent follows from the seed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tttkd_ros.fastdds import use_profile
from tttkd_ros.files import write_whole
from tttkd_ros.subprocesses import interruptible

from .clouds import DEFAULT_POINTS
from .run import Result, soak


def main(
    sweeps: int = 10_000, rate: float = 25.0, seed: int = 0, points: int = DEFAULT_POINTS,
    out: Path = Path("bench_output"), injection: bool = False,
) -> int:  # fmt: skip
    """
    Args:
        sweeps: Number that the node has to receive.
        rate: Hz.
        seed: Of all random draws.
        points: Mean number in most sweeps. 112500 give clouds of 1.8 MB, which two cores process at about 2 Hz.
        out: Folder for soak.json and for the node's log.
        injection: The student takes image features while it predicts.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    use_profile()
    out.mkdir(parents=True, exist_ok=True)
    console = Console()
    with interruptible(), tempfile.TemporaryDirectory() as folder, Progress() as bar:
        task = bar.add_task("sweeps", total=sweeps)

        def report(done: int, act: str) -> None:
            bar.update(task, completed=min(done, sweeps), description=act)

        result = soak(sweeps, rate, seed, points, Path(folder), out / "soak.log", report, injection=injection)
    write_whole(out / "soak.json", (json.dumps(asdict(result), indent=2) + "\n").encode())
    show(result, console)
    console.print(f"written to {out / 'soak.json'}")
    return 0 if all(check.passed for check in result.checks) else 1


def show(result: Result, console: Console) -> None:
    for name, figures in result.figures.items():
        text = ", ".join(f"{what} {value:g}" for what, value in figures.items())
        console.print(f"[bold]{name}[/bold]: {text}", highlight=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("must be so", "", "seen"):
        table.add_column(heading)
    for check in result.checks:
        table.add_row(check.what, "[green]yes[/green]" if check.passed else "[bold red]NO[/bold red]", check.detail)
    console.print(table)


if __name__ == "__main__":
    sys.exit(tyro.cli(main, prog="python -m soak", description=__doc__))
