"""Runs an adapter in a process of its own, so that on a CPU its steps never hold the lock that predictions need.

spconv's CPU kernels keep Python's interpreter lock while they gather and scatter. Beside a step in a thread, a
prediction would take twice its time. On a GPU both only wait for kernels, and a thread is enough. A crash in a kernel
ends this process and not the node.

Weights travel in shared memory. Frames, settings and reports travel through a pipe. Linux only: memfd_create.
"""

from __future__ import annotations

import logging
import mmap
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from tttkd_ros.adaptation.adapter import Adapter, AdapterDied, StepReport
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.frame import Frame
from tttkd_ros.segmenter.weights import Weights
from tttkd_ros.subprocesses import end_with, start_python

log = logging.getLogger(__name__)

STEP_TIMEOUT_S = 120.0
BUILD_TIMEOUT_S = 600.0  # importing and compiling take seconds, on a busy machine minutes
NICENESS = 5  # of the child once it is built: if cores are short, predictions go first


class Cancellation:
    """Kills the process that another thread waits for when it is called, and any later one as soon as it starts.

    An orderly end would have to wait for a step or a build whose result is not needed.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._called = False

    def __call__(self) -> None:
        with self._lock:
            self._called = True
            self._kill()

    def watch(self, process: subprocess.Popen) -> None:
        """Apply to this process instead of the one before."""
        with self._lock:
            self._process = process
            if self._called:
                self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class AdapterProcess:
    """An `Adapter` whose work is done by another one in a child process.

    The child ends at the latest with the thread that made this object. Every method raises `AdapterDied` once it has
    ended.

    Args:
        build: makes the adapter in the child; picklable: a function of a module, or a `functools.partial` of one.
        shipped: the weights that it begins with.
        timeout_s: for a step.
        cancel: kills the child, and so ends any wait for it.

    Raises:
        Exception: whatever `build` raises.
    """

    def __init__(
        self,
        build: Callable[[], Adapter],
        shipped: Weights,
        *,
        timeout_s: float = STEP_TIMEOUT_S,
        cancel: Cancellation | None = None,
    ):
        self._timed_out = False
        self._version = shipped.version
        request = pickle.dumps(build)  # before there is anything to clean up
        memory = os.memfd_create("tttkd_ros weights")
        self._connection, theirs = Pipe()
        try:
            os.ftruncate(memory, 4 * sum(tensor.numel() for tensor in shipped.tensors.values()))
            self._shared = _views(mmap.mmap(memory, 0), shipped.tensors)
            _copy(shipped.tensors, self._shared)
            self._process = start_python(
                "-m", __name__, str(theirs.fileno()), str(memory), str(os.getpid()),
                pass_fds=(theirs.fileno(), memory), stdin=subprocess.DEVNULL,
            )
        finally:
            theirs.close()
            os.close(memory)
        if cancel is not None:
            cancel.watch(self._process)
        try:
            self._timeout_s = BUILD_TIMEOUT_S
            self._ask(request)
            self._timeout_s = timeout_s
        except BaseException:
            self.close()
            raise

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        report = self._ask(("step", frame, config))
        self._version = report.version
        return report

    def weights(self) -> Weights:
        # The child writes to the shared memory only while it works on a request, and there is none now.
        tensors = {name: tensor.clone() for name, tensor in self._shared.items()}
        return Weights(self._version, MappingProxyType(tensors))

    def load_weights(self, weights: Weights) -> None:
        _copy(weights.tensors, self._shared)
        self._ask(("load", weights.version))
        self._version = weights.version

    def close(self) -> None:
        """Close the pipe, which ends the child. Kill it if it does not end."""
        self._connection.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: Any) -> Any:
        # A child that hangs may not even read its request, and then `send` does not return either.
        timeout = threading.Timer(self._timeout_s, self._kill)
        timeout.daemon = True
        timeout.start()
        try:
            self._connection.send(request)
            kind, content = self._connection.recv()
            while kind == "log":
                logging.getLogger(content.name).handle(content)
                kind, content = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            how = f"ended with {_ending(self._process.returncode)}"
            if self._timed_out:
                how = f"gave no answer within {self._timeout_s:g} s and was killed"
            raise AdapterDied(f"the adaptation process {how}") from error
        finally:
            timeout.cancel()
            timeout.join()
        if kind == "error":
            error, trace = content
            raise error from RuntimeError(trace)
        return content

    def _kill(self) -> None:
        self._timed_out = True
        self._process.kill()


def _serve(connection: Connection, memory: mmap.mmap) -> None:
    """Serve requests in the child until the parent closes the pipe. The first one builds the adapter."""
    adapter: Adapter | None = None
    shared: dict[str, Tensor] = {}
    version = 0  # of the weights in memory
    while True:
        try:
            request = connection.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            match request:
                case bytes():
                    adapter, answer = pickle.loads(request)(), None
                    os.nice(NICENESS)
                    shared = _views(memory, adapter.weights().tensors)
                case "step", frame, config:
                    answer = adapter.step(frame, config)
                    if answer.version != version:
                        version = answer.version
                        _copy(adapter.weights().tensors, shared)
                case "load", version:
                    answer = adapter.load_weights(Weights(version, shared))
            reply = "answer", answer
        except Exception as error:  # the parent handles it
            reply = "error", (_sendable(error), traceback.format_exc())
        try:
            connection.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return


def _views(memory: mmap.mmap, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of these names and shapes, one after the other in memory."""
    flat = torch.frombuffer(memory, dtype=torch.float32)
    parts = flat.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception's constructor may need any arguments
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _ending(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"


class _ToParent(logging.Handler):
    """Sends log records to the parent."""

    def __init__(self, connection: Connection):
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = self.format(record), None, None
        self._connection.send(("log", record))


def _main() -> None:
    connection, memory, parent = Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    end_with(parent)  # a long step or build must not outlive it
    for number in (signal.SIGINT, signal.SIGTERM):  # a service manager sends them to all processes of a service
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to end
    package = logging.getLogger("tttkd_ros")
    package.handlers, package.propagate = [_ToParent(connection)], False
    package.setLevel(logging.INFO)
    _serve(connection, mmap.mmap(memory, 0))


if __name__ == "__main__":
    _main()
