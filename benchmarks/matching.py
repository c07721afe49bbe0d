"""Compare this package's matcher with message_filters: sweeps with all images, and CPU time per message.

Both get the same simulated messages one at a time: sweeps at 10 Hz, and images whose stamps jitter by 15 ms and which
arrive 20 to 80 ms later. A sweep is matched if it gets the image of every camera that still sends. Costs are CPU time.
This matcher reads the stamp of the serialised image, stores it, registers sweeps and finds each sweep's images.
ApproximateTimeSynchronizer (queues of 10, a slop of 50 ms) runs `add`, without the deserialisation that it needs.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import SimpleNamespace

from common import Rows, command
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tttkd_ros.messages.matching import StampMatcher, Unmatched
from tttkd_ros.messages.stamps import SECOND, split, stamp_of_raw

MS = SECOND // 1000
PERIOD, TOLERANCE, DEPTH = 100 * MS, 50 * MS, 10
SWEEPS = 600
SWEEP = "sweep"


@dataclass(frozen=True)
class Scenario:
    """lost: this many of the cameras end after the first third. loop: the second half repeats the stamps of the first.
    rate: images per sweep. Counted are the sweeps from `first` on."""

    name: str
    cameras: int
    lost: int = 0
    loop: bool = False
    rate: int = 1

    @property
    def first(self) -> int:
        return SWEEPS // 3 if self.lost else SWEEPS // 2 if self.loop else 0

    @property
    def names(self) -> list[str]:
        return [f"camera_{index}" for index in range(self.cameras)]

    def stamp(self, index: int) -> int:
        return 1000 * SECOND + (index % (SWEEPS // 2) if self.loop else index) * PERIOD

    def arrivals(self) -> list[tuple[str, int, int]]:
        """(stream, stamp, index of the sweep) in the order of arrival."""
        draw = random.Random(0)
        messages = []
        last = dict.fromkeys(self.names, 0)  # arrival: the middleware keeps the order of each topic
        for index in range(SWEEPS):
            stamp, now = self.stamp(index), index * PERIOD
            messages.append((now + 50 * MS, SWEEP, stamp, index))
            for number, name in enumerate(self.names):
                if index >= SWEEPS // 3 and number < self.lost:
                    continue
                for image in range(self.rate):
                    since = image * PERIOD // self.rate + draw.randint(-15 * MS, 15 * MS)
                    last[name] = max(last[name], now + since + draw.randint(20 * MS, 80 * MS))
                    messages.append((last[name], name, stamp + since, index))
        return [message[1:] for message in sorted(messages)]


@dataclass(frozen=True)
class Row:
    """matched: of the counted sweeps, in per cent. mean_us: CPU time per message; longest_ms: of the dearest message.
    None where message_filters is not installed."""

    scenario: str
    cameras: int
    messages: int
    matched: float
    mean_us: float
    longest_ms: float
    their_matched: float | None = None
    their_mean_us: float | None = None
    their_longest_ms: float | None = None


SCENARIOS = (
    Scenario("all there", 1), Scenario("all there", 3), Scenario("all there", 6),
    Scenario("one camera lost", 3, lost=1), Scenario("one camera lost", 6, lost=1),
    Scenario("after a bag loop", 3, loop=True), Scenario("after a bag loop", 6, loop=True),
    Scenario("images at 30 Hz", 6, rate=3), Scenario("30 Hz, one camera lost", 6, lost=1, rate=3),
    Scenario("30 Hz, after a bag loop", 6, loop=True, rate=3),
)


def run(quick: bool = False) -> Rows:
    """One row per scenario, as `Row` has it.

    Args:
        quick: Run briefly, only to check that it works.
    """
    return [asdict(measure(scenario)) for scenario in (SCENARIOS[:1] if quick else SCENARIOS)]


def measure(scenario: Scenario) -> Row:
    arrivals = scenario.arrivals()
    theirs = _percent_and_costs(_synchronise(scenario, arrivals), scenario) if _message_filters() else ()
    return Row(
        scenario.name, scenario.cameras, len(arrivals),
        *_percent_and_costs(_match(scenario, arrivals), scenario), *theirs,
    )


def _percent_and_costs(outcome: tuple[set[int], list[int]], scenario: Scenario) -> tuple[float, float, float]:
    matched, costs = outcome
    counted = sum(index >= scenario.first for index in matched)
    return 100 * counted / (SWEEPS - scenario.first), sum(costs) / len(costs) * 1e-3, max(costs) * 1e-6


def _match(scenario: Scenario, arrivals: list[tuple[str, int, int]]) -> tuple[set[int], list[int]]:
    """The indices of the sweeps that got all images, and nanoseconds per message.

    A sweep asks when the next one arrives, as a training step does that may wait for 0.1 s.
    """
    matcher: StampMatcher[bytes] = StampMatcher(dict.fromkeys(scenario.names, 0), TOLERANCE, DEPTH)
    matched, asking = set(), []

    def sweep(stamp: int, index: int) -> None:
        scan = matcher.register(stamp)
        if asking:
            earlier, its_index = asking.pop()
            found = 0
            for name in scenario.names:
                try:
                    matcher.nearest(name, earlier)
                    found += 1
                except Unmatched:
                    pass
            if found >= scenario.cameras - (scenario.lost if its_index >= scenario.first else 0):
                matched.add(its_index)
        asking.append((scan, index))

    def image(name: str, cdr: bytes) -> None:
        matcher.add(name, stamp_of_raw(cdr), cdr)

    calls = [
        (sweep, stamp, index) if stream == SWEEP
        else (image, stream, struct.pack("<BBBBiI", 0, 1, 0, 0, *split(stamp)))
        for stream, stamp, index in arrivals
    ]
    costs = _costs(calls)
    _costs([(sweep, arrivals[-1][1], SWEEPS)])  # the last sweep asks, too
    return matched, costs


def _synchronise(scenario: Scenario, arrivals: list[tuple[str, int, int]]) -> tuple[set[int], list[int]]:
    """Do the same with ApproximateTimeSynchronizer."""
    from builtin_interfaces.msg import Time

    filters = _message_filters()
    matched = set()
    inputs = {name: filters.SimpleFilter() for name in (SWEEP, *scenario.names)}
    synchroniser = filters.ApproximateTimeSynchronizer(list(inputs.values()), DEPTH, TOLERANCE / SECOND)
    synchroniser.registerCallback(lambda sweep, *images: matched.add(sweep.index))
    calls = []
    for stream, stamp, index in arrivals:
        sec, nanosec = split(stamp)
        header = SimpleNamespace(stamp=Time(sec=sec, nanosec=nanosec))
        calls.append((inputs[stream].signalMessage, SimpleNamespace(header=header, index=index)))
    return matched, _costs(calls)


def _costs(calls: list[tuple[Callable, ...]]) -> list[int]:
    """Nanoseconds of this thread's CPU time for each call."""
    costs = []
    for call, *arguments in calls:
        begun = time.thread_time_ns()
        call(*arguments)
        costs.append(time.thread_time_ns() - begun)
    return costs


def _message_filters():
    """Return the module, None if it or rclpy is not installed."""
    try:
        import message_filters
    except ImportError:
        return None
    return message_filters


def show(rows: Rows) -> Table:
    shown = Table("", "cameras", title="Matching (ours | ApproximateTimeSynchronizer)", title_justify="left",
                  box=SIMPLE_HEAD)
    for heading in ("% matched", "µs/message", "longest, ms"):
        shown.add_column(heading, justify="right")
    for row in rows:
        cells = [
            f"{row[key]:.{digits}f} | " + ("absent" if theirs is None else f"{theirs:.{digits}f}")
            for key, digits in (("matched", 1), ("mean_us", 1), ("longest_ms", 2)) for theirs in [row[f"their_{key}"]]
        ]
        shown.add_row(row["scenario"], str(row["cameras"]), *cells)
    return shown


if __name__ == "__main__":
    command("matching", __doc__, run, show)
