"""Saves adapted weights to the file of the parameter `state.file` and loads them: on demand, at intervals, at start."""

from __future__ import annotations

import concurrent.futures
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

from tttkd_ros.adaptation.state_file import Origin, Provenance, load_state, save_state
from tttkd_ros.monitoring.throttled_log import ThrottledLog, error_with
from tttkd_ros.paths import resolve_path
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros.parameters import STATE_FILE
from tttkd_ros.ros.settings import Settings

Outcome = tuple[bool, str]  # success and message


class AdaptedState:
    """Reads and writes files in a thread of its own, one after the other: a disk may take seconds.

    Its methods are for the executor's thread.

    Args:
        origin: of the student that the pipeline began with.
    """

    def __init__(self, node: Node, pipeline: Pipeline, origin: Origin, settings: Settings):
        self._node = node
        self._log = node.get_logger()
        self._errors = ThrottledLog(error_with(self._log))
        self._pipeline = pipeline
        self._origin = origin
        self._model = str(resolve_path(settings.model))
        self._lock = threading.Lock()
        self._base = 0, 0  # a version, and how many steps after the checkpoint it is
        self._saved = pipeline.weights  # need no saving
        self._known_file: Path | None = None  # last written or loaded
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="state")
        self._autosaving: concurrent.futures.Future | None = None
        self._autosaves = settings.autosave > 0
        if self._autosaves:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(settings.autosave, self.autosave, clock=steady)

    def save(self) -> Future:
        """Returns an awaitable `Outcome`."""
        return self._submit(self._save)

    def load(self) -> Future:
        """Returns an awaitable `Outcome`. The loaded weights get the version after the published one."""
        return self._submit(self._load)

    def reset(self) -> str:
        """Publish the checkpoint's weights; returns what else that did."""
        with self._lock:
            self._base = 0, 0
            return self._pipeline.reset()

    def restore(self) -> None:
        """Load the file at start, if there is one.

        A refused file is logged and kept, and the node starts with its model's weights: labels without what was learned
        are better than none.
        """
        try:
            self._log.info(self._load(_path(self._file())))
        except FileNotFoundError as error:
            self._log.info(f"state.load_at_start: {error}; starts with the weights of the model")
        except (ValueError, OSError) as error:
            self._log.error(f"state.load_at_start: {error}; starts with the weights of the model")

    def autosave(self) -> None:
        """Save new weights if the parameters ask for it; a failure is logged."""
        if self._autosaves and (self._autosaving is None or self._autosaving.done()):
            self._autosaving = self._pool.submit(self._autosave, self._file())

    def close(self) -> None:
        """Save new weights if the parameters ask for it, and end the thread."""
        if self._autosaves:
            self._autosaves = False
            self._node.destroy_timer(self._timer)
            self._pool.submit(self._autosave, self._file())
        self._pool.shutdown(wait=True)

    def _file(self) -> str:
        return self._node.get_parameter(STATE_FILE).value

    def _submit(self, action: Callable[[Path], str]) -> Future:
        done = Future()

        def finish(work: concurrent.futures.Future) -> None:
            done.set_result(work.result())
            if (executor := self._node.executor) is not None:
                executor.wake()  # it checks awaited futures only if something happens

        self._pool.submit(self._attempt, action, self._file()).add_done_callback(finish)
        return done

    def _attempt(self, action: Callable[[Path], str], file: str) -> Outcome:
        try:
            message = action(_path(file))
        except (ValueError, OSError) as error:
            self._log.error(str(error))
            return False, str(error)
        except Exception as error:  # no content of a file may end the node
            self._log.error(traceback.format_exc())
            return False, f"{type(error).__name__}: {error}"
        self._log.info(message)
        return True, message

    def _autosave(self, file: str) -> None:
        if self._pipeline.weights is self._saved:
            return
        try:
            path = _path(file)
            if path != self._known_file and path.exists():
                load_state(path, self._origin)  # raises if it is another model's, which must not be overwritten
            self._save(path)
        except Exception as error:  # none may end the node
            self._errors.warn("state.autosave", f"nothing saved: {error}")

    def _save(self, path: Path) -> str:
        with self._lock:
            weights, (version, steps) = self._pipeline.weights, self._base
        provenance = Provenance(
            model=self._model,
            node=self._node.get_fully_qualified_name(),
            steps=steps + weights.version - version,
            saved=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        save_state(path, self._origin, weights, self._pipeline.config, provenance)
        self._saved, self._known_file = weights, path
        return f"saved version {weights.version} to {path}: {provenance}"

    def _load(self, path: Path) -> str:
        state = load_state(path, self._origin)
        with self._lock:
            weights = self._pipeline.load_weights(replace(state.weights, version=0))
            self._base = weights.version, state.provenance.steps
        self._saved, self._known_file = weights, path
        return f"loaded {path}: {state.provenance}; continues as version {weights.version}"


def _path(file: str) -> Path:
    if not file:
        raise ValueError(f"the parameter {STATE_FILE} is empty: set it to the file for the adapted weights")
    try:
        return Path(file).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"the parameter {STATE_FILE} is {file!r}: {error}") from error
