"""All benchmarks, or those that are named: a table each, and all figures in bench_output/bench.json.

What a benchmark measures, and against what, is told by `python benchmarks/<name>.py --help`. Figures are of the machine
as it is: leave it alone meanwhile. Contenders take turns, so that their ratios mean more than their times.
"""

from __future__ import annotations

import importlib
from typing import Literal, get_args

import tyro
from common import write
from rich.console import Console
from tyro.conf import Positional

Name = Literal["clouds", "projection", "matching", "motion", "overhead", "latency", "prediction", "scaling", "memory"]


def bench(names: Positional[tuple[Name, ...]] = (), quick: bool = False) -> None:
    """
    Args:
        names: Which; all if none is named.
        quick: Too little to measure well, enough to see that all runs.
    """
    console = Console()
    results = {}
    for name in names or get_args(Name):
        benchmark = importlib.import_module(name)
        with console.status(f"measuring: {name}"):
            results[name] = benchmark.run(quick)
        console.print(benchmark.show(results[name]))
    console.print(f"written to {write('bench', results)}")


if __name__ == "__main__":
    tyro.cli(bench, prog="python benchmarks", description=__doc__)
