"""A folder of finished runs: each is there whole or not at all, so that an evaluation can go on where it was ended."""

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

FORMAT = "tttkd_ros result 2"
SHOWN = 4  # differences named in a message


class Store:
    """inputs.json: what the runs depend on. runs/<bag>/<run>.npz: a `Result`, but for its timing. runs/<bag>/
    <run>.timing.npz: that. runs/<bag>/frozen.labels: see `LabelFile`.

    inputs: JSON values, of which a later evaluation may add some. None stands for one that cannot be had: it differs
    from any that the folder has, and is not kept, for no run depends on it. Raises ValueError where the folder holds
    runs on other inputs, cannot be written, or is somebody else's.
    """

    def __init__(self, folder: Path, inputs: dict):
        self.folder = folder
        path = folder / "inputs.json"
        then = {}
        if path.is_file():
            try:
                then = json.loads(path.read_text(encoding="utf-8"))
                if not isinstance(then, dict):
                    raise ValueError(f"expected an object, it is a {type(then).__name__}")
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} is damaged ({error}): remove {folder}, or choose another folder") from error
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is not empty and holds no evaluation: choose another folder")
        if found := differences(then, inputs):
            more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
            raise ValueError(f"{folder} holds runs on other inputs ({'; '.join(found[:SHOWN] + more)}): choose another "
                             "folder, or remove this one to begin anew")
        try:
            write_whole(path, _json(then | {name: value for name, value in inputs.items() if value is not None}))
        except OSError as error:
            reason = (error.__cause__ or error).strerror
            raise ValueError(f"{folder} cannot be written ({reason}): choose another folder") from error

    def path(self, bag: str, title: str) -> Path:
        """Of the run's result."""
        return self.folder / "runs" / bag / f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', title)}.npz"

    def labels(self, bag: str) -> LabelFile:
        """The frozen student's."""
        return LabelFile(self.folder / "runs" / bag / "frozen.labels")

    def read(self, bag: str, title: str) -> Result | None:
        """A finished run, None where there is none."""
        path = self.path(bag, title)
        try:
            content, timing = path.read_bytes(), path.with_suffix(".timing.npz").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return decoded(content, timing)
        # zipfile, its decompressors and NumPy's parser do not say what a damaged file makes them raise.
        except Exception as error:
            log.warning("%s is damaged (%r): the run is done again", path, error)
            return None

    def write(self, bag: str, result: Result) -> None:
        path = self.path(bag, result.title)
        about, timing = encoded(result)
        write_whole(path.with_suffix(".timing.npz"), timing)
        write_whole(path, about)  # last, for it tells that the run is finished


class LabelFile:
    """The labels of a drive's points, a byte each, sweep by sweep: on disk, for a drive's are too many for memory."""

    def __init__(self, path: Path):
        self.path = path

    @contextmanager
    def write(self) -> Iterator[Callable[[Frame, Prediction], None]]:
        """To be called with every sweep; the file is there when all have been. Raises Unwritable."""
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
            with suppress(OSError):  # it would write again what could not be written
                file.close()
        put_in_place(partial, self.path)

    @contextmanager
    def read(self) -> Iterator[Callable[[Frame], np.ndarray]]:
        """To be called with every sweep, in their order: (N,) uint8. Raises ValueError where there are no more."""
        with self.path.open("rb") as file:

            def labels(frame: Frame) -> np.ndarray:
                found = np.frombuffer(file.read(len(frame.points)), np.uint8)
                if len(found) != len(frame.points):
                    raise ValueError(f"{self.path} ends before the sweep stamped {frame.stamp}: remove it, and the "
                                     "frozen student is run again")
                return found

            yield labels

    def holds(self, points: int) -> bool:
        """Whether it is there, with the labels of so many points."""
        return self.path.is_file() and self.path.stat().st_size == points


def encoded(result: Result) -> tuple[bytes, bytes]:
    """The result as an .npz file that is the same bytes for the same result, and its timing as another."""
    about = {
        "format": FORMAT, "name": result.name, "class_names": result.class_names, "settings": result.settings,
        "steps_tried": result.steps_tried, "steps_accepted": result.steps_accepted, "rejections": result.rejections,
        "lengths": result.lengths, "problems": result.problems,
    }
    arrays = {
        "about": np.frombuffer(_json(about), np.uint8), "stamps": result.stamps, "matrices": result.matrices,
        "calibration": result.calibration,
        "loss_stamps": np.array([stamp for stamp, _ in result.losses], np.int64),
        "losses": np.array([loss for _, loss in result.losses], np.float64),
        "sample_stamps": np.array(list(result.samples), np.int64),
        "sample_sizes": np.array([len(labels) for labels in result.samples.values()], np.int64),
        "sample_labels": np.concatenate([np.empty(0, np.uint8), *result.samples.values()]),
    }
    arrays |= {name: getattr(result, name) for name in ("predicted", "agreement") if getattr(result, name) is not None}
    timing = result.timing or Timing(np.empty(0), np.empty(0))
    return _npz(**arrays), _npz(predictions=timing.predictions, steps=timing.steps)


def decoded(content: bytes, timing: bytes) -> Result:
    """What `encoded` made them of."""
    with np.load(BytesIO(content), allow_pickle=False) as file:
        arrays = dict(file)
    with np.load(BytesIO(timing), allow_pickle=False) as file:
        seconds = Timing(file["predictions"], file["steps"])
    about = json.loads(arrays["about"].tobytes())
    if about["format"] != FORMAT:
        raise ValueError(f"format {about['format']!r}, expected {FORMAT!r}")
    samples = np.split(arrays["sample_labels"], np.cumsum(arrays["sample_sizes"])[:-1])
    return Result(
        name=about["name"],
        class_names=tuple(about["class_names"]),
        stamps=arrays["stamps"],
        matrices=arrays["matrices"],
        settings=about["settings"],
        steps_tried=about["steps_tried"],
        steps_accepted=about["steps_accepted"],
        rejections=about["rejections"],
        losses=tuple(zip(arrays["loss_stamps"].tolist(), arrays["losses"].tolist(), strict=True)),
        predicted=arrays.get("predicted"),
        agreement=arrays.get("agreement"),
        calibration=arrays["calibration"],
        samples=dict(zip(arrays["sample_stamps"].tolist(), samples, strict=False)),
        lengths=tuple(about["lengths"]),
        problems=tuple(about["problems"]),
        timing=seconds,
    )


def _npz(**arrays: np.ndarray) -> bytes:
    file = BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _json(values: dict) -> bytes:
    return (json.dumps(values, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()
