"""Adapted weights to and from the file of the parameter `state.file`: on demand, at intervals, at start."""

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
from tttkd_ros.pipeline import Pipeline
from tttkd_ros.ros.files import resolve
from tttkd_ros.ros.logs import err
from tttkd_ros.ros.parameters import STATE_FILE
from tttkd_ros.ros.settings import Settings
from tttkd_ros.ros.throttled_log import ThrottledLog

Outcome = tuple[bool, str]  # success, and what there is to say


class AdaptedState:
    """Reads and writes in a thread of its own, one file after the other: a disk may take seconds, and neither sweeps
    nor the node's callbacks may wait for it.

    origin: of the student that the pipeline began with. Its methods are for the executor's thread.
    """

    def __init__(self, node: Node, pipeline: Pipeline, origin: Origin, settings: Settings):
        self._node = node
        self._log = node.get_logger()
        self._complaints = ThrottledLog(err(self._log))
        self._pipeline = pipeline
        self._origin = origin
        self._model = str(resolve(settings.model))
        self._lock = threading.Lock()
        self._base = 0, 0  # a version, and the steps since the checkpoint that it stands for
        self._kept = pipeline.weights  # what needs no saving
        self._own: Path | None = None  # the file last written or loaded
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="state")
        self._saving: concurrent.futures.Future | None = None
        self._autosaves = settings.autosave > 0
        if self._autosaves:
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = node.create_timer(settings.autosave, self.autosave, clock=steady)

    def save(self) -> Future:
        """Awaitable `Outcome`."""
        return self._in_thread(self._save)

    def load(self) -> Future:
        """Awaitable `Outcome`. What is loaded gets the version after the one published."""
        return self._in_thread(self._load)

    def reset(self) -> None:
        """Back to the shipped weights."""
        with self._lock:
            self._pipeline.reset()
            self._base = 0, 0

    def restore(self) -> None:
        """At start: go on from the file, if there is one.

        A file that is refused is reported and left alone, and the node goes on with the weights of its model: a robot
        that labels without what it has learnt is better off than one that does not label.
        """
        try:
            self._log.info(self._load(_path(self._node.get_parameter(STATE_FILE).value)))
        except FileNotFoundError as error:
            self._log.info(f"state.load_at_start: {error}; begins with the weights of the model")
        except (ValueError, OSError) as error:
            self._log.error(f"state.load_at_start: {error}; begins with the weights of the model")

    def autosave(self) -> None:
        """Save what is new, if the parameters ask for it; failures are complained about."""
        if self._autosaves and (self._saving is None or self._saving.done()):
            self._saving = self._pool.submit(self._autosave, self._node.get_parameter(STATE_FILE).value)

    def close(self) -> None:
        """Save what is new, if asked for, and end the thread."""
        if self._autosaves:
            self._autosaves = False
            self._node.destroy_timer(self._timer)
            self._pool.submit(self._autosave, self._node.get_parameter(STATE_FILE).value)
        self._pool.shutdown(wait=True)

    def _in_thread(self, action: Callable[[Path], str]) -> Future:
        done = Future()

        def finished(work: concurrent.futures.Future) -> None:
            done.set_result(work.result())
            if (executor := self._node.executor) is not None:
                executor.wake()  # it looks at what is awaited only when something happens

        self._pool.submit(self._attempt, action, self._node.get_parameter(STATE_FILE).value).add_done_callback(finished)
        return done

    def _attempt(self, action: Callable[[Path], str], file: str) -> Outcome:
        try:
            message = action(_path(file))
        except (ValueError, OSError) as error:
            self._log.error(str(error))
            return False, str(error)
        except Exception as error:  # nothing that a file holds may bring the node down
            self._log.error(traceback.format_exc())
            return False, f"{type(error).__name__}: {error}"
        self._log.info(message)
        return True, message

    def _autosave(self, file: str) -> None:
        if self._pipeline.weights is self._kept:
            return
        try:
            path = _path(file)
            if path != self._own and path.exists():
                load_state(path, self._origin)  # what another model has learnt is not overwritten unasked
            self._save(path)
        except Exception as error:  # of any kind: the node lives on
            self._complaints.warn("state.autosave", f"nothing saved: {error}")

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
        self._kept, self._own = weights, path
        return f"saved version {weights.version} to {path}: {provenance}"

    def _load(self, path: Path) -> str:
        state = load_state(path, self._origin)
        with self._lock:
            weights = self._pipeline.load_weights(replace(state.weights, version=0))
            self._base = weights.version, state.provenance.steps
        self._kept, self._own = weights, path
        return f"loaded {path}: {state.provenance}; goes on as version {weights.version}"


def _path(file: str) -> Path:
    if not file:
        raise ValueError(f"the parameter {STATE_FILE} is empty: set it to the file for the adapted weights")
    try:
        return Path(file).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"the parameter {STATE_FILE} is {file!r}: {error}") from error
