"""Prepares the frames of sources on disk, once for all epochs, part by part."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from rich.filesize import decimal
from rich.progress import Progress

from tttkd_ros.digests import code_version, digest
from tttkd_ros.files import write_whole
from tttkd_ros.subprocesses import end_with
from tttkd_ros.teacher.foundation_model import FoundationModel, load_teacher
from tttkd_ros.teacher.timm_model import read_config
from tttkd_ros.training.prepared import (
    FrameSettings,
    PreparedFrame,
    prepare_frame,
    read_frame,
    with_maps,
    write_frame,
)

SUMMARY = "summary.json"  # of a part; it is written last, so a part without it is incomplete
_POLL_S = 0.2
_FORK = multiprocessing.get_context("fork")  # a worker starts at once, with all modules


@dataclass(frozen=True)
class FrameTeacher:
    """Where the teacher's features of prepared frames come from.

    digest: of its files. device: "cuda" computes in the main process, "cpu" in the workers.
    """

    source: str
    digest: str
    device: str

    @classmethod
    def of(cls, teacher: Path, device: str) -> FrameTeacher:
        """teacher: folder, or name of a downloaded model."""
        return cls(str(teacher), digest(teacher if teacher.is_dir() else read_config(teacher).weights), device)


@dataclass(frozen=True)
class PreparedPart:
    """A part on disk. label_counts: (256,), how many points have each label. visible: points that a camera sees."""

    name: str
    folder: Path
    frames: int
    label_counts: np.ndarray
    visible: int

    def paths(self) -> list[Path]:
        return [frame_path(self.folder, index) for index in range(self.frames)]


def prepare(
    parts: Sequence, folder: Path, settings: FrameSettings, teacher: FrameTeacher | None = None, *, workers: int = 0,
    quiet: bool = False,
) -> list[PreparedPart]:
    """Prepare all frames of parts in a folder, but for the parts that are there already with the same inputs.

    Args:
        parts: see `tttkd_ros.datasets.source`.
        teacher: None keeps the images.
        workers: processes that prepare a part each; 0 for none beside this one.
        quiet: show no progress.

    Raises ValueError with part and sweep if a frame cannot be prepared, or if the disk is too small; Unwritable if it
    became full.
    """
    folders = [folder / _key(part, settings, teacher) for part in parts]
    missing = {path: part for path, part in zip(folders, parts, strict=True) if not (path / SUMMARY).is_file()}
    if missing:
        for path in missing:
            shutil.rmtree(path, ignore_errors=True)
        _require_space(missing, folder, settings, teacher, quiet)
        _prepare(missing, settings, teacher, workers, quiet)
    return [_prepared(part.name, path) for part, path in zip(parts, folders, strict=True)]


def frame_path(folder: Path, index: int) -> Path:
    """Return the file of a frame of a part."""
    return folder / f"{index:06d}.safetensors"


def _key(part, settings: FrameSettings, teacher: FrameTeacher | None) -> str:
    """Name a part's folder after everything that its content depends on."""
    inputs = {
        "part": part.name, "inputs": part.inputs, "settings": asdict(settings), "code": code_version(),
        "teacher": teacher and teacher.digest,
    }
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9.]+', '_', part.name)[-40:]}-{key[:16]}"


def _require_space(missing: Mapping, folder: Path, settings: FrameSettings, teacher: FrameTeacher | None,
                   quiet: bool) -> None:
    """Estimate the size of all frames from the first one. Raises ValueError if the disk has less."""
    path, part = next(iter(missing.items()))
    first = next(_frames(part, settings, teacher), None)
    if first is None:
        return
    sample = path / "first.safetensors"
    write_frame(sample, first)
    needed = sample.stat().st_size * _count(missing, settings)
    sample.unlink()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(f"the prepared frames need about {decimal(needed)} in {folder}, which has {decimal(free)} "
                         "left: name a folder on another disk with --cache")
    if not quiet:
        print(f"prepared frames: about {decimal(needed)} in {folder}")


def _prepare(missing: Mapping, settings: FrameSettings, teacher: FrameTeacher | None, workers: int,
             quiet: bool) -> None:
    done, stop = _FORK.Value("q", 0), _FORK.Event()
    with Progress(disable=quiet) as bar:
        task = bar.add_task("frames", total=_count(missing, settings))
        with _executor(workers, done, stop) as executor:
            running = {executor.submit(_prepare_part, part, path, settings, teacher): path
                       for path, part in sorted(missing.items(), key=lambda each: -len(each[1]))}
            while running:
                ended, _ = wait(running, _POLL_S, FIRST_COMPLETED)
                bar.update(task, completed=done.value)
                for future in ended:
                    path = running.pop(future)
                    summary = _result(future)
                    if teacher is not None and teacher.device != "cpu":
                        _compute_maps(path, summary["frames"], settings, teacher)
                    write_whole(path / SUMMARY, json.dumps(summary).encode())
        bar.update(task, completed=done.value, total=done.value)


def _count(parts: Mapping, settings: FrameSettings) -> int:
    """Return how many frames parts have at most."""
    return sum(part.labelled if settings.labelled else len(part) for part in parts.values())


@contextmanager
def _executor(workers: int, done, stop):
    """Yield an executor of processes, or of one thread without workers. An error stops them after their frame."""
    kind = partial(ProcessPoolExecutor, mp_context=_FORK) if workers else ThreadPoolExecutor
    with kind(max(workers, 1), initializer=_start_worker, initargs=(done, stop, bool(workers))) as executor:
        try:
            yield executor
        except BaseException:
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _result(future: Future) -> dict:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ValueError("a worker that prepares frames was killed, perhaps for lack of memory: use fewer "
                         "--workers") from error


_shared: dict[str, object] = {}  # of a worker: how many frames are done, and whether to stop


def _start_worker(done, stop, process: bool) -> None:
    _shared.update(done=done, stop=stop)
    if process:
        torch.set_num_threads(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process says when to stop
        end_with(multiprocessing.parent_process().pid)


def _prepare_part(part, path: Path, settings: FrameSettings, teacher: FrameTeacher | None) -> dict:
    """Write the frames of a part, and return its summary."""
    counts, frames, visible = np.zeros(256, np.int64), 0, 0
    for frame in _frames(part, settings, teacher):
        if _shared["stop"].is_set():
            raise InterruptedError("another part cannot be prepared")
        write_frame(frame_path(path, frames), frame)
        if frame.labels is not None:
            counts += np.bincount(frame.labels.numpy(), minlength=256)
        frames, visible = frames + 1, visible + int((frame.patches >= 0).any(0).sum())
        with _shared["done"].get_lock():
            _shared["done"].value += 1
    if not frames:
        kind = "labelled sweep" if settings.labelled else "sweep"
        raise ValueError(f"{part.name} has no {kind}: leave it out, or name another source")
    return {"frames": frames, "label_counts": counts.tolist(), "visible": visible}


def _frames(part, settings: FrameSettings, teacher: FrameTeacher | None):
    """Yield the prepared frames of a part. Raises ValueError with its name and the number of the sweep."""
    index = -1
    try:
        for index, frame in enumerate(part):
            if settings.labelled and frame.labels is None:
                continue
            prepared = prepare_frame(frame, settings)
            if teacher is not None and teacher.device == "cpu":
                prepared = with_maps(prepared, _teacher(teacher.source, settings.input_size, "cpu"))
            yield prepared
            index += 1  # an error of the part itself is that of its next sweep
    except (ValueError, OSError) as error:
        raise ValueError(f"{part.name}, sweep {max(index, 0)}: {error}") from error


@lru_cache(maxsize=1)
def _teacher(source: str, input_size: tuple[int, int], device: str) -> FoundationModel:
    return load_teacher(source, input_size=input_size, engine="eager", device=device)


def _compute_maps(path: Path, frames: int, settings: FrameSettings, teacher: FrameTeacher) -> None:
    model = _teacher(teacher.source, settings.input_size, teacher.device)
    for index in range(frames):
        frame: PreparedFrame = read_frame(frame_path(path, index))
        write_frame(frame_path(path, index), with_maps(frame, model))


def _prepared(name: str, path: Path) -> PreparedPart:
    try:
        summary = json.loads((path / SUMMARY).read_bytes())
        return PreparedPart(name, path, int(summary["frames"]), np.array(summary["label_counts"], np.int64),
                            int(summary["visible"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / SUMMARY} is damaged: delete the folder {path}, and the same command prepares it "
                         "again") from error
