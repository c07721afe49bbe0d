"""Run all benchmarks, or the named ones. Print a table for each and write all figures to bench_output/bench.json.

`python benchmarks/<name>.py --help` describes what a benchmark measures. Leave the machine idle meanwhile. Contenders
alternate, so that their ratios are more reliable than their times.
"""

from __future__ import annotations

import importlib
from typing import Literal, get_args

import tyro
from common import write
from rich.console import Console
from tyro.conf import Positional

Name = Literal["clouds", "projection", "matching", "motion", "overhead", "latency", "prediction", "scaling", "memory",
               "loading", "injection"]


def bench(names: Positional[tuple[Name, ...]] = (), quick: bool = False) -> None:
    """
    Args:
        names: All by default.
        quick: Run briefly, only to check that it works.
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
