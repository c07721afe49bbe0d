"""An adapter in a process of its own: what crosses, and what becomes of a child that dies, hangs or is orphaned."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe
from types import MappingProxyType

import pytest
import torch

from tttkd_ros.adaptation.adapter import AdapterDied
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.process import AdapterProcess, Cancellation, _serve
from tttkd_ros.segmenter.weights import Weights

sys.path.append(os.path.dirname(__file__))  # the children's, too
from counting_adapter import SHIPPED, Counting, refuse, take_forever  # noqa: E402

PATIENCE = 20  # seconds until a test that hangs fails


@pytest.fixture
def child():
    made = []

    def make(build=Counting, **options):
        made.append(AdapterProcess(build, SHIPPED, **options))
        return made[-1]

    yield make
    for process in made:
        process.close()


def sums(weights):
    return [tensor.unique().tolist() for tensor in weights.tensors.values()]


def pid_of(process):
    return int(process.step("frame", TTTConfig()).cosine)


def ended(pid):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_steps_run_in_another_process_and_return_their_weights(child):
    process = child()
    assert pid_of(process) != os.getpid()
    process.step("frame", TTTConfig())
    assert process.weights().version == 2
    assert sums(process.weights()) == [[2.0], [2.0]]
    assert process.weights().tensors["first"].shape == (2, 3)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 looks in the working directory first, always")
def test_a_file_in_the_working_directory_replaces_no_module(child, tmp_path, monkeypatch):
    (tmp_path / "queue.py").write_text("raise ImportError('not the queue that was meant')")
    monkeypatch.chdir(tmp_path)
    assert child().step("frame", TTTConfig()).accepted


def test_returned_weights_never_change(child):
    process = child()
    process.step("frame", TTTConfig())
    before = process.weights()
    process.step("frame", TTTConfig())
    assert sums(before) == [[1.0], [1.0]]


def test_a_rejected_step_is_reported_and_changes_nothing(child):
    process = child()
    assert process.step("reject", TTTConfig()).reason == "not wanted"
    assert (process.weights().version, sums(process.weights())) == (0, [[0.0], [0.0]])


def test_loaded_weights_are_adapted_further(child):
    process = child()
    fives = {name: torch.full_like(tensor, 5) for name, tensor in SHIPPED.tensors.items()}
    process.load_weights(Weights(40, MappingProxyType(fives)))
    process.step("frame", TTTConfig())
    assert (process.weights().version, sums(process.weights())) == (41, [[6.0], [6.0]])


def test_an_exception_in_the_child_is_raised_here_and_the_child_continues(child):
    process = child()
    with pytest.raises(OSError, match="no such image"):
        process.step("raise", TTTConfig())
    assert process.step("frame", TTTConfig()).version == 1


def test_a_failed_build_raises_its_reason():
    with pytest.raises(ValueError, match="no teacher at 'nowhere'"):
        AdapterProcess(refuse, SHIPPED)


def test_log_records_of_the_child_are_logged_here(child, caplog):
    child().step("frame", TTTConfig(learning_rate=0.25))
    assert "a step at 0.25" in caplog.messages


def test_a_crash_ends_only_the_child_and_is_named(child):
    process = child()
    with pytest.raises(AdapterDied, match="SIGSEGV"):
        process.step("die", TTTConfig())
    with pytest.raises(AdapterDied):
        process.step("frame", TTTConfig())


def test_a_child_killed_between_two_steps_is_noticed(child):
    process = child()
    os.kill(pid_of(process), signal.SIGKILL)
    with pytest.raises(AdapterDied, match="SIGKILL"):
        process.step("frame", TTTConfig())


def test_a_child_that_hangs_is_killed(child):
    process = child(timeout_s=3.0)
    pid = pid_of(process)
    with pytest.raises(AdapterDied, match="no answer within 3 s"):
        process.step("hang", TTTConfig())
    assert ended(pid)


def test_a_child_that_does_not_read_is_killed(child):
    process = child(timeout_s=3.0)
    pid = pid_of(process)
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(AdapterDied, match="no answer within 3 s"):
        process.step("frame" * 1_000_000, TTTConfig())  # more than the pipe takes
    assert ended(pid)


def test_cancelling_ends_a_step(child):
    cancel = Cancellation()
    process = child(cancel=cancel)
    pid_of(process)
    threading.Timer(0.5, cancel).start()
    with pytest.raises(AdapterDied, match="SIGKILL"):
        process.step("hang", TTTConfig())


def test_cancelling_ends_a_build(child):
    cancel = Cancellation()
    threading.Timer(0.5, cancel).start()
    with pytest.raises(AdapterDied, match="SIGKILL"):
        child(take_forever, cancel=cancel)


def test_after_cancelling_no_child_is_waited_for(child):
    cancel = Cancellation()
    cancel()
    with pytest.raises(AdapterDied):
        child(take_forever, cancel=cancel)


def test_dead_adapters_leave_no_file_open():
    opened = []
    for _ in range(3):
        process = AdapterProcess(Counting, SHIPPED)
        os.kill(pid_of(process), signal.SIGKILL)
        with pytest.raises(AdapterDied):
            process.step("frame", TTTConfig())
        del process
        gc.collect()
        opened.append(len(os.listdir("/proc/self/fd")))
    assert opened[1] == opened[2]  # the first also opens what stays for all of them


def test_a_terminal_does_not_interrupt_the_child(child):
    pid = pid_of(child())
    assert os.getpgid(pid) != os.getpgid(0)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_the_child_ignores_the_signals_of_a_service_manager(child, asked):
    process = child()
    os.kill(pid_of(process), asked)
    assert process.step("frame", TTTConfig()).version == 2


def test_closing_ends_the_child(child):
    process = child()
    pid = pid_of(process)
    process.close()
    assert ended(pid)


# Starts a child and has it do something; the parent is killed while the child is at it.
ORPHAN = """
import os, sys, threading, time
import counting_adapter as fakes
from tttkd_ros.adaptation.config import TTTConfig
from tttkd_ros.adaptation.process import AdapterProcess
process = AdapterProcess(fakes.Counting, fakes.SHIPPED)
print(int(process.step('frame', TTTConfig()).cosine), flush=True)
if sys.argv[1] != "nothing":
    threading.Thread(target=process.step, args=(sys.argv[1], TTTConfig()), daemon=True).start()
    time.sleep(0.5)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("doing", ["nothing", "hang", "talk"])
def test_a_child_whose_parent_was_killed_ends_at_once_and_without_a_traceback(doing):
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ORPHAN, doing]
    parent = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | path)
    assert ended(int(parent.stdout))
    assert "Traceback" not in parent.stderr  # which the child shares, and holds open until it ends


def test_a_child_that_outlives_the_pipe_ends_without_a_traceback(capfd):
    """As where the system has no signal for a parent's death."""
    ours, theirs = Pipe()
    serving = threading.Thread(target=_serve, args=(theirs, None), daemon=True)
    ours.send(("step", "frame", TTTConfig()))  # which fails, for there is no adapter
    ours.close()
    serving.start()
    serving.join(PATIENCE)
    assert not serving.is_alive()
    assert capfd.readouterr().err == ""
