"""An adapter in a process of its own: on a CPU its steps then never hold the interpreter lock that predictions need.

(spconv's CPU kernels keep the lock while they gather and scatter: beside a step in a thread, a prediction takes twice
its time. On a GPU both only wait for kernels, and a thread does.) A crash in a kernel ends that process, not the node.

The weights cross in shared memory; frames, settings and reports through a pipe. Linux only: memfd_create.
"""

from __future__ import annotations

import ctypes
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
from tttkd_ros.subprocesses import start_python

log = logging.getLogger(__name__)

PATIENCE_S = 120.0  # for the answer to a step; one that takes longer will not come
BUILD_PATIENCE_S = 600.0  # for the adapter: to import and to compile takes seconds, on a crowded machine minutes
DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG
NICENESS = 5  # of the child once it is built: where cores are short, predictions go first


class Cancellation:
    """Called from any thread, ends the process that another thread waits for, and at once any that is still to come.

    To end it in good order would be to wait for the step or the build that it is in, of which nothing will be used.
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
        """This process, in place of the one before."""
        with self._lock:
            self._process = process
            if self._called:
                self._kill()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()


class AdapterProcess:
    """The adapter that `build` makes in the child, with an adapter's methods. The child ends with the thread that made
    this object, at the latest.

    build: picklable, so a function of a module or a `functools.partial` of one. shipped: the weights that it begins
    with. patience_s: for the answer to a step. cancel: ends the child, and with it whatever is waited for. Raises what
    `build` raises; every method raises `AdapterDied` once the child is gone.
    """

    def __init__(
        self,
        build: Callable[[], Adapter],
        shipped: Weights,
        *,
        patience_s: float = PATIENCE_S,
        cancel: Cancellation | None = None,
    ):
        self._hung = False
        self._version = shipped.version
        order = pickle.dumps(build)  # before there is anything to clean up
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
            self._patience_s = BUILD_PATIENCE_S
            self._ask(order)
            self._patience_s = patience_s
        except BaseException:
            self.close()
            raise

    def step(self, frame: Frame, config: TTTConfig) -> StepReport:
        report = self._ask(("step", frame, config))
        self._version = report.version
        return report

    def weights(self) -> Weights:
        # The child writes to its memory only when asked for something, and it is not asked now.
        tensors = {name: tensor.clone() for name, tensor in self._shared.items()}
        return Weights(self._version, MappingProxyType(tensors))

    def load_weights(self, weights: Weights) -> None:
        _copy(weights.tensors, self._shared)
        self._ask(("adopt", weights.version))
        self._version = weights.version

    def close(self) -> None:
        """Hang up, which ends the child; one that does not end is killed."""
        self._connection.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, request: Any) -> Any:
        # A child that hangs may not even read what it is asked: then to send it does not return either.
        late = threading.Timer(self._patience_s, self._give_up)
        late.daemon = True
        late.start()
        try:
            self._connection.send(request)
            kind, content = self._connection.recv()
            while kind == "log":
                logging.getLogger(content.name).handle(content)
                kind, content = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            how = f"ended with {_ending(self._process.returncode)}"
            if self._hung:
                how = f"gave no answer within {self._patience_s:g} s and was killed"
            raise AdapterDied(f"the adaptation process {how}") from error
        finally:
            late.cancel()
            late.join()  # it has nothing left to wait for; a thread less to be seen once this returns
        if kind == "error":
            error, told = content
            raise error from RuntimeError(told)
        return content

    def _give_up(self) -> None:
        self._hung = True
        self._process.kill()


def _serve(connection: Connection, memory: mmap.mmap) -> None:
    """The child: build the adapter, then do what is asked until the parent hangs up."""
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
                case "adopt", version:
                    answer = adapter.load_weights(Weights(version, shared))
            reply = "answer", answer
        except Exception as error:  # it is the parent's to deal with
            reply = "error", (_sendable(error), traceback.format_exc())
        try:
            connection.send(reply)
        except (BrokenPipeError, ConnectionResetError):
            return


def _views(memory: mmap.mmap, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of these names and shapes, one after the other in memory."""
    flat = torch.frombuffer(memory, dtype=torch.float32)
    parts = flat.split([tensor.numel() for tensor in like.values()])
    return {name: part.view(tensor.shape) for (name, tensor), part in zip(like.items(), parts, strict=True)}


def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an exception's constructor may want anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _ending(code: int | None) -> str:
    return f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"


class _ToParent(logging.Handler):
    def __init__(self, connection: Connection):
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = self.format(record), None, None
        self._connection.send(("log", record))


def _main() -> None:
    connection, memory, parent = Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)  # else a long step or build would outlive the parent
    if os.getppid() != parent:  # it died before that
        return
    for asked in (signal.SIGINT, signal.SIGTERM):  # by a service manager, of all that belong to the service
        signal.signal(asked, signal.SIG_IGN)  # the parent says when to end
    package = logging.getLogger("tttkd_ros")
    package.handlers, package.propagate = [_ToParent(connection)], False
    package.setLevel(logging.INFO)
    _serve(connection, mmap.mmap(memory, 0))


if __name__ == "__main__":
    _main()
