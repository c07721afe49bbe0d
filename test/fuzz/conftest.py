"""Damaged inputs for codecs and readers, and what is asked of all of these: a result, or an error that they document.

FUZZ_INPUTS sets how many inputs each test draws. They follow from the seed alone, so a test that fails or dies does so
again. If it dies, of a crash in a library or of the time limit, its folder stays: with the input of that moment (bytes,
or pickled) and with hang.txt, which tells where it hung.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import pickle
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

from tttkd_ros.bags.storage import Bag, Record, open_bag
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.stamps import SECOND

from . import inputs
from .inputs import TAPE, Tape

INPUTS = int(os.environ.get("FUZZ_INPUTS", "120"))
BLOCK = 40  # inputs to one draw of Hypothesis, which takes longer than many a reader
BATCH = 400  # draws that Hypothesis keeps account of at a time, for the sake of memory
HANG_S = 300.0  # for a block of inputs: none should come near it, however busy the machine
ROOM = 2**30  # bytes of address space that a target may take: inputs are kilobytes
DOCUMENTED = (ValueError, FileNotFoundError)


@pytest.fixture(autouse=True)
def quiet():
    """A camera that cannot be used, a run to be done again: they are logged, here thousands of times."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def folder():
    """A folder in memory, if there is such a place: ext4 takes milliseconds to write a file anew."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tttkd_fuzz_", dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture
def fuzz(folder, record_property):
    """`fuzz(make, target)`: `target` takes what `make` makes of each tape, and returns or raises as documented."""

    def run(make: Callable[[Tape], Any], target: Callable[[Any], None]) -> None:
        outcomes = Counter()

        def check(content: bytes) -> None:
            faulthandler.dump_traceback_later(HANG_S, exit=True, file=hang)
            for start in range(0, len(content), TAPE):
                each = make(Tape(content[start : start + TAPE]))
                (folder / "input").write_bytes(each if isinstance(each, bytes) else pickle.dumps(each))
                try:
                    target(each)
                except DOCUMENTED as error:
                    assert str(error), f"{type(error)} has no message"
                    outcomes["refused"] += 1
                except BaseException:
                    note(f"The input was {each!r}")
                    raise
                else:
                    outcomes["taken"] += 1

        start = time.monotonic()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_address_space() + ROOM, before[1]))
        draws = -(-INPUTS // BLOCK)
        try:
            with (folder / "hang.txt").open("w") as hang, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # numbers overflow on the way to being refused
                for first in range(0, draws, BATCH):
                    rules = settings(
                        max_examples=min(BATCH, draws - first), deadline=None, database=None,
                        report_multiple_bugs=False, phases=(Phase.generate,), suppress_health_check=list(HealthCheck),
                    )  # fmt: skip
                    rules(seed(first)(given(st.binary(min_size=BLOCK * TAPE, max_size=BLOCK * TAPE))(check)))()
                faulthandler.cancel_dump_traceback_later()
        finally:
            faulthandler.cancel_dump_traceback_later()
            resource.setrlimit(resource.RLIMIT_AS, before)
        record_property("fuzzed", f"{outcomes['taken']} taken, {outcomes['refused']} refused, "
                                  f"{time.monotonic() - start:.0f} s")

    return run


@pytest.fixture
def fuzz_files(fuzz, folder):
    """`fuzz_files(files, take)`: `take` is given a folder of these files, one of them damaged."""

    def run(files, take) -> None:
        contents = _laid_out(folder / "files", files)
        ways = [(name, way) for name, content in contents.items() for way in inputs.ways(name, content)]

        def make(tape) -> tuple[str, bytes]:
            name, way = tape.choose(ways)
            return name, way(tape)

        def taken(given: tuple[str, bytes]) -> None:
            name, content = given
            (folder / "files" / name).write_bytes(content)
            try:
                take(folder / "files")
            finally:
                (folder / "files" / name).write_bytes(contents[name])

        fuzz(make, taken)

    return run


def pytest_terminal_summary(terminalreporter) -> None:
    """What became of the inputs, test by test."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "fuzzed":
                terminalreporter.write_line(f"{report.nodeid.rpartition('::')[2]:45} {value}")


def _laid_out(folder: Path, files: dict[str, str | bytes]) -> dict[str, bytes]:
    """Writes the files; their contents as bytes."""
    contents = {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return contents


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


CAMERA = CameraModel(8, 6, 5.0, 5.0, 4.0, 3.0, "plumb_bob", (0.1, 0.01, 0.0, 0.0, 0.0))
CAMERA_FROM_LIDAR = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
START = 1_700_000_000 * SECOND


@pytest.fixture(scope="session")
def drive() -> list[Frame]:
    """Three sweeps of twenty points that tell their times, with one camera."""
    rng = np.random.default_rng(0)
    frames = []
    for stamp in range(START, START + 3 * SECOND // 10, SECOND // 10):
        view = View("camera_front", stamp, rng.integers(0, 255, (6, 8, 3), np.uint8), CAMERA, CAMERA_FROM_LIDAR)
        points, labels = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 10, 20).astype(np.uint8)
        times = np.linspace(0, 0.1, 20)
        frames.append(Frame(stamp, points, (view,), rng.random(20, np.float32), labels, times))
    return frames


@pytest.fixture(scope="session")
def bags(drive, tmp_path_factory) -> dict[str, Path]:
    """The drive, its odometry, and what the node answered, as a bag in each storage."""
    folder = tmp_path_factory.mktemp("bags")
    for storage in ("mcap", "sqlite3"):
        with BagWriter(folder / storage, storage=storage) as bag:
            for frame in drive:
                bag.write_pose(np.eye(4), frame.stamp)
                bag.write_frame(frame)
    return {storage: folder / storage for storage in ("mcap", "sqlite3")}


@pytest.fixture(scope="session")
def records(bags) -> dict[str, Record]:
    """Topic -> its first message."""
    with open_bag(bags["mcap"]) as bag:
        return {record.topic: record for record in reversed(list(bag.messages(bag.types)))}


@pytest.fixture(scope="session")
def decode():
    """`decode(type, cdr)`: a message's bytes as a reader of bags takes them."""
    bag = Bag(Path("bag"), SimpleNamespace(connections=[]))
    return lambda kind, cdr: bag.decode(Record("/topic", kind, 0, cdr))
