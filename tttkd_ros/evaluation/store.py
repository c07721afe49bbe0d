"""A folder of finished runs, so that an interrupted evaluation can continue. Each run is whole or absent."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from tttkd_ros.digests import differences
from tttkd_ros.evaluation.result import Result, Timing
from tttkd_ros.files import naming, put_in_place, write_whole
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.segmenter import Prediction

log = logging.getLogger(__name__)

FORMAT = "tttkd_ros result 3"
MAX_DIFFERENCES = 4  # named in a message
# Fields of a `Result`: plain values, and arrays that are always there or may be None.
VALUES = ("name", "class_names", "settings", "steps_tried", "steps_accepted", "rejections", "lengths", "problems")
ARRAYS = ("stamps", "matrices", "calibration", "predicted", "agreement")


class Store:
    """Finished runs in a folder that is new, empty or of an earlier evaluation on the same inputs.

    inputs.json has what the runs depend on. runs/<bag>/<run>.npz has a `Result` without its timing, which is in
    <run>.timing.npz. runs/<bag>/frozen.labels is a `LabelFile`. A run that other code made is run again, see
    `digests.code_version`.

    inputs: JSON values; "code" is the code's version. A later evaluation may add entries. None stands for an input that
    cannot be read: it differs from every stored value, and is not stored, because no run depends on it. Raises
    ValueError if the folder has runs on other inputs, cannot be written, or has other content.
    """

    def __init__(self, folder: Path, inputs: dict):
        self.folder = folder
        self._code = inputs["code"]
        path = folder / "inputs.json"
        stored = {}
        if path.is_file():
            try:
                stored = json.loads(path.read_text(encoding="utf-8"))
                if not isinstance(stored, dict):
                    raise ValueError(f"expected an object, it is a {type(stored).__name__}")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} is damaged ({error}): remove {folder}, or choose another folder") from error
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is not empty and holds no evaluation: choose another folder")
        code = stored.pop("code", self._code)
        if found := differences(stored, inputs):
            more = [f"and {len(found) - MAX_DIFFERENCES} more"] if len(found) > MAX_DIFFERENCES else []
            changes = "; ".join(found[:MAX_DIFFERENCES] + more)
            raise ValueError(f"{folder} holds runs on other inputs ({changes}): choose another folder, or remove this "
                             "one to start again")
        if code != self._code:
            log.warning("%s holds runs of other code (%s then, %s now): they are run again", folder, code, self._code)
        try:
            write_whole(path, _json(stored | {name: value for name, value in inputs.items() if value is not None}))
        except OSError as error:
            reason = (error.__cause__ or error).strerror
            raise ValueError(f"{folder} cannot be written ({reason}): choose another folder") from error

    def path(self, bag: str, title: str) -> Path:
        """Path of a run's result."""
        return self.folder / "runs" / bag / f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', title)}.npz"

    def labels(self, bag: str) -> LabelFile:
        """The frozen student's labels."""
        return LabelFile(self.folder / "runs" / bag / "frozen.labels")

    def read(self, bag: str, title: str) -> Result | None:
        """Read a finished run; None if there is none, if it is damaged, or if other code made it."""
        path = self.path(bag, title)
        try:
            content, timing = path.read_bytes(), path.with_suffix(".timing.npz").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decode(content, timing, self._code)
        # zipfile, its decompressors and NumPy's parser do not document what a damaged file makes them raise.
        except Exception as error:
            log.warning("%s is damaged (%r): the run is done again", path, error)
            return None

    def write(self, bag: str, result: Result) -> None:
        """Store a finished run."""
        path = self.path(bag, result.title)
        content, timing = encode(result, self._code)
        write_whole(path.with_suffix(".timing.npz"), timing)
        write_whole(path, content)  # last, because it marks the run as finished


class LabelFile:
    """Labels of a drive's points, one byte each, sweep by sweep. A drive has too many of them for memory."""

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def write(self) -> Iterator[Callable[[Frame, Prediction], None]]:
        """Yield a function to call with every sweep. The file appears when the context ends. Raises Unwritable."""
        partial = self.path.with_suffix(".partial")
        with naming(self.path):
            partial.parent.mkdir(parents=True, exist_ok=True)
            file = partial.open("wb")

        def write(frame: Frame, prediction: Prediction) -> None:
            with naming(self.path):
                file.write(prediction.labels.tobytes())

        try:
            yield write
            with naming(self.path):
                file.flush()
        finally:
            with suppress(OSError):  # closing tries again to write what could not be written
                file.close()
        put_in_place(partial, self.path)

    @contextmanager
    def read(self) -> Iterator[Callable[[Frame], np.ndarray]]:
        """Yield a function that returns the labels (N,) uint8 of the next sweep. It raises ValueError at the end."""
        with self.path.open("rb") as file:

            def labels(frame: Frame) -> np.ndarray:
                found = np.frombuffer(file.read(len(frame.points)), np.uint8)
                if len(found) != len(frame.points):
                    raise ValueError(f"{self.path} ends before the sweep stamped {frame.stamp}: remove it, and the "
                                     "frozen student is run again")
                return found

            yield labels

    def holds(self, points: int) -> bool:
        """Whether the file exists and has this many labels."""
        return self.path.is_file() and self.path.stat().st_size == points


def encode(result: Result, code: str) -> tuple[bytes, bytes]:
    """Encode a result and its timing as two .npz files. Equal results give equal bytes."""
    about = {"format": FORMAT, "code": code} | {name: getattr(result, name) for name in VALUES}
    arrays = {name: getattr(result, name) for name in ARRAYS} | {
        "about": np.frombuffer(_json(about), np.uint8),
        "loss_stamps": np.array([stamp for stamp, _ in result.losses], np.int64),
        "losses": np.array([loss for _, loss in result.losses], np.float64),
        "sample_stamps": np.array(list(result.samples), np.int64),
        "sample_sizes": np.array([len(labels) for labels in result.samples.values()], np.int64),
        "sample_labels": np.concatenate([np.empty(0, np.uint8), *result.samples.values()]),
    }
    return (_npz({name: array for name, array in arrays.items() if array is not None}),
            _npz({"predictions": result.timing.predictions, "steps": result.timing.steps}))


def decode(content: bytes, timing: bytes, code: str) -> Result | None:
    """Decode the files of `encode`; None if their code is another. Raises whatever a damaged file causes."""
    with np.load(BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    with np.load(BytesIO(timing), allow_pickle=False) as file:
        seconds = Timing(file["predictions"], file["steps"])
    about = json.loads(arrays["about"].tobytes())
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']!r}, expected {FORMAT!r}")
    if about["code"] != code:
        return None
    values = {name: tuple(about[name]) if isinstance(about[name], list) else about[name] for name in VALUES}
    samples = np.split(arrays["sample_labels"], np.cumsum(arrays["sample_sizes"])[:-1])
    return Result(
        **values,
        **{name: arrays.get(name) for name in ARRAYS},
        losses=tuple(zip(arrays["loss_stamps"].tolist(), arrays["losses"].tolist(), strict=True)),
        samples=dict(zip(arrays["sample_stamps"].tolist(), samples, strict=False)),
        timing=seconds,
    )


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _json(values: dict) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
