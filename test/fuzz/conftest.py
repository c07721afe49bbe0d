"""The property of every fuzz test: a valid result, or an error that the reader documents.

FUZZ_INPUTS sets the number of inputs per test. Inputs are the same in every run. After a crash or a hang, the folder of
the test remains: with the last input if it was a file, and with hang.txt, the stack of the hang.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tttkd_ros.bags.storage import Bag, Record, open_bag
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.frame import Frame, View
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.messages.stamps import SECOND

from .strategies import mutated_folder

HANG_S = 300.0  # per input, on a busy machine
MAX_MEMORY = 2**30  # bytes of address space per input, which is kilobytes
DOCUMENTED = (ValueError, FileNotFoundError)
START = 1_700_000_000 * SECOND

settings.register_profile(
    "fuzz", max_examples=int(os.environ.get("FUZZ_INPUTS", "40")), derandomize=True, database=None, deadline=None,
    report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
)  # fmt: skip


def fuzz(test):
    """Run a test once per input, with `data` to draw the input from."""
    return settings.get_profile("fuzz")(given(data=st.data())(test))


def check_frame(frame: Frame) -> None:
    """Check the shapes of everything in a frame."""
    assert frame.points.shape == (len(frame.points), 3)
    assert isinstance(frame.stamp, int)
    for values in (*frame.features.values(), frame.labels):
        assert values is None or len(values) == len(frame.points)
    for view in frame.views:
        assert view.image.shape == (view.camera.height, view.camera.width, 3)
        assert np.isfinite(view.camera_from_lidar).all()


class Attempt:
    """A context in which documented errors pass. Any other error, a hang and too much memory fail the test."""

    def __init__(self, folder: Path):
        self.outcomes = Counter()
        self._stack = (folder / "hang.txt").open("w")

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_MEMORY, self._limits[1]))
        faulthandler.dump_traceback_later(HANG_S, exit=True, file=self._stack)

    def __exit__(self, kind, error, traceback) -> bool:
        faulthandler.cancel_dump_traceback_later()
        resource.setrlimit(resource.RLIMIT_AS, self._limits)
        documented = isinstance(error, DOCUMENTED)
        assert not documented or str(error), f"{kind} has no message"
        if documented or error is None:
            outcome = "rejected" if documented else "accepted"
            self.outcomes[outcome] += 1
            event(outcome)
        return documented


@pytest.fixture
def attempt(folder):
    """`with attempt:` around the code under test."""
    attempt = Attempt(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers overflow before they are rejected
        yield attempt
    assert attempt.outcomes["accepted"], "not even the valid input was accepted"


@pytest.fixture
def fuzz_files(folder, attempt):
    """`fuzz_files(files, read)` calls `read(folder)` on a folder of these files, one of them damaged.

    files: text or bytes by name.
    """

    def run(files: dict[str, bytes | str], read: Callable[[Path], object]) -> None:
        path = folder / "files"
        contents = {name: content.encode() if isinstance(content, str) else content for name, content in files.items()}
        for name, content in contents.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        inputs = mutated_folder(contents)

        @fuzz
        def check(data):
            name, content = data.draw(inputs)
            (path / name).write_bytes(content)
            try:
                with attempt:
                    read(path)
            finally:
                (path / name).write_bytes(contents[name])

        check()

    return run


@pytest.fixture(autouse=True)
def no_logging():
    """Readers log thousands of warnings here."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def folder():
    """A folder in memory if possible, because inputs are written thousands of times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tttkd_fuzz_", dir=memory if memory.is_dir() else None) as path:
        yield Path(path)


@pytest.fixture(scope="session")
def drive() -> list[Frame]:
    """Three sweeps of twenty points with times, labels and one camera."""
    camera = CameraModel(8, 6, 5.0, 5.0, 4.0, 3.0, "plumb_bob", (0.1, 0.01, 0.0, 0.0, 0.0))
    camera_from_lidar = np.array([[0.0, -1, 0, 0.1], [0, 0, -1, -0.2], [1, 0, 0, -0.3], [0, 0, 0, 1]])
    generator = np.random.default_rng(0)
    frames = []
    for stamp in range(START, START + 3 * SECOND // 10, SECOND // 10):
        view = View("camera_front", stamp, generator.integers(0, 255, (6, 8, 3), np.uint8), camera, camera_from_lidar)
        points = generator.normal(size=(20, 3)).astype(np.float32)
        labels = generator.integers(0, 10, 20).astype(np.uint8)
        features = {"intensity": generator.random(20, np.float32), "time": np.linspace(0, 0.1, 20)}
        frames.append(Frame(stamp, points, (view,), features, labels))
    return frames


@pytest.fixture(scope="session")
def bags(drive, tmp_path_factory) -> dict[str, Path]:
    """The drive and its odometry as a bag, by storage."""
    folder = tmp_path_factory.mktemp("bags")
    for storage in ("mcap", "sqlite3"):
        with BagWriter(folder / storage, storage=storage) as bag:
            for frame in drive:
                bag.write_pose(np.eye(4), frame.stamp)
                bag.write_frame(frame)
    return {storage: folder / storage for storage in ("mcap", "sqlite3")}


@pytest.fixture(scope="session")
def records(bags) -> dict[str, Record]:
    """The first message of each topic."""
    with open_bag(bags["mcap"]) as bag:
        return {record.topic: record for record in reversed(list(bag.messages(bag.types)))}


@pytest.fixture(scope="session")
def decode():
    """`decode(type, cdr)` deserialises a message as a reader of bags does."""
    bag = Bag(Path("bag"), {Path("bag.mcap"): SimpleNamespace(connections=[], damage=None)})
    return lambda kind, cdr: bag.decode(Record("/topic", kind, 0, cdr))
