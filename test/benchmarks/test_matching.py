"""What the benchmark of matching measures; not how fast."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def benchmark(load_benchmark):
    return load_benchmark("matching")


@pytest.fixture(scope="module")
def rows(benchmark):
    return benchmark.run()


def test_every_sweep_gets_the_images_of_the_cameras_that_send(rows):
    assert {row["matched"] for row in rows} == {100.0}


def test_without_message_filters_its_columns_say_so(benchmark, monkeypatch):
    from rich.console import Console

    monkeypatch.setattr(benchmark, "_message_filters", lambda: None)
    row = benchmark.asdict(benchmark.measure(benchmark.Scenario("all there", 1)))
    assert row["their_matched"] is None
    console = Console(width=120, record=True)
    console.print(benchmark.show([row]))
    assert "| absent" in console.export_text()


def test_with_a_lost_camera_images_end_and_sweeps_go_on(benchmark):
    arrivals = benchmark.Scenario("lost", 2, lost=1).arrivals()
    last = {stream: stamp for stream, stamp, _ in arrivals}
    assert last["camera_0"] < last["camera_1"] - 30 * benchmark.SECOND
    assert last["sweep"] > last["camera_0"] + 30 * benchmark.SECOND
