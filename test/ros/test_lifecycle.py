"""Transitions and interrupts at any moment: what a node leaves behind and what it survives."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import weakref
from pathlib import Path
from types import ModuleType

import pytest

rclpy = pytest.importorskip("rclpy")

from lifecycle_msgs.msg import Transition  # noqa: E402
from lifecycle_msgs.srv import ChangeState  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import TransitionCallbackReturn  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from tttkd_ros.ros import node as module  # noqa: E402
from tttkd_ros.ros import start  # noqa: E402
from tttkd_ros.ros.node import SegmenterNode  # noqa: E402

SECOND = 10**9
LIVES = 6
CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP


def children(pid: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found |= set(map(int, (task / "children").read_text().split()))
        except FileNotFoundError:  # it has ended meanwhile
            continue
    return found


def held(pid: int) -> tuple[int, int, set[int]]:
    """Threads, open files and children of a process."""
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd")), children(pid)


def resident(pid: int) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module")
def parameters(models) -> dict[str, object]:
    return {"model": str(models.student), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager"}


def test_lives_that_end_at_any_moment_leave_nothing_behind(start_node, parameters, ros):
    process = start_node(
        parameters | {"autostart": False, "qos.reliability": "reliable", "qos.depth": 100, "ttt.stride": 1},
        "-r", "__node:=reborn",
    )
    pid, talker = process.process.pid, ros.Talker("reborn")
    stamps = iter(range(SECOND, SECOND * 10**6, SECOND))

    def change(transition: int) -> None:
        request = ChangeState.Request(transition=Transition(id=transition))
        assert talker.call(ChangeState, "/reborn/change_state", request).success

    def send(count: int) -> None:
        talker.infos.publish(ros.info())
        for _ in range(count):
            stamp = next(stamps)
            talker.images.publish(ros.image(stamp))
            talker.points.publish(ros.cloud(stamp))

    def settled() -> tuple:
        """What it holds once the middleware's own threads have come to rest."""
        deadline, before = time.monotonic() + 10, None
        while (now := held(pid)) != before or now != calm:
            if time.monotonic() > deadline:
                return now
            before = now
            pause = time.monotonic() + 0.2
            talker.until(lambda pause=pause: time.monotonic() > pause)
        return now

    try:
        talker.until(lambda: talker.node.count_publishers("/diagnostics") > 0, 60)
        sizes, calm = [], None
        for life in range(LIVES):
            change(CONFIGURE)
            if life % 4:  # else while the adapter is being built
                change(ACTIVATE)
                talker.until(talker.connected)
                send(20)  # of which many still wait when the end comes
            if life % 4 == 2:
                talker.until(talker.reports, 120)
                talker.heard[f"/{talker.name}/adaptation"].clear()
                send(20)  # and a step is under way
            if life % 4:
                change(DEACTIVATE)
            change(CLEANUP)
            talker.until(lambda: not talker.points.get_subscription_count())
            assert not talker.node.count_publishers("/reborn/points_labeled")
            calm = calm or held(pid)
            assert settled() == calm
            sizes.append(resident(pid))
        assert calm[2] == set()
        assert sizes[-1] <= 1.05 * sizes[2], sizes
        assert process.end() == 0, process.log
    finally:
        talker.close()


@pytest.fixture
def make_node(parameters):
    """A node of this process, in a context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    nodes = []

    def make(**changes) -> SegmenterNode:
        overrides = [Parameter(name, value=value) for name, value in (parameters | changes).items()]
        nodes.append(SegmenterNode(context=context, parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()
        node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.mark.parametrize("ahead", [(), ("configure",), ("configure", "activate")])
def test_shutdown_from_any_state_ends_threads_and_processes(make_node, ahead):
    node = make_node()
    threads, others = threading.active_count(), children(os.getpid())
    for transition in ahead:
        assert getattr(node, f"trigger_{transition}")() == TransitionCallbackReturn.SUCCESS
    start = time.monotonic()
    assert node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS
    assert time.monotonic() - start < 10
    assert threading.active_count() == threads
    assert children(os.getpid()) <= others


def test_a_transition_that_fails_leaves_the_node_as_it_was_and_says_why(make_node, monkeypatch):
    node = make_node(teacher="")
    log = []
    monkeypatch.setattr(node, "get_logger", lambda: type("Log", (), {"fatal": log.append, "info": log.append}))
    assert node.trigger_activate() != TransitionCallbackReturn.SUCCESS  # never configured
    monkeypatch.setattr(module, "Runtime", lambda *_: 1 / 0)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "cannot configure: " in log[-1] and "ZeroDivisionError" in log[-1]
    monkeypatch.undo()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_a_callback_that_raises_is_reported_and_the_others_go_on(make_node, monkeypatch):
    node, log, ticks = make_node(teacher=""), [], []
    monkeypatch.setattr(node, "get_logger", lambda: type("Log", (), {"error": log.append}))
    node.create_timer(0.01, lambda: 1 / 0)
    node.create_timer(0.01, lambda: ticks.append(1))
    executor = SingleThreadedExecutor(context=node.context)
    spinning = threading.Thread(target=module._spin, args=(node, executor), daemon=True)
    spinning.start()
    deadline = time.monotonic() + 20
    while len(ticks) < 20:
        assert time.monotonic() < deadline, "the node stood still"
        time.sleep(0.01)
    rclpy.shutdown(context=node.context)
    spinning.join(20)
    assert not spinning.is_alive()
    assert len(log) == 1
    assert "ZeroDivisionError" in log[0]


def test_a_node_that_is_interrupted_while_it_labels_and_trains_reports_no_failure(start_node, parameters, ros):
    process = start_node(
        parameters | {"qos.reliability": "reliable", "qos.depth": 100, "queue": 100, "ttt.stride": 1},
        "-r", "__node:=busy",
    )
    process.wait_for("ready to adapt")
    talker = ros.Talker("busy")
    talker.until(talker.connected)
    many = ros.points(60_000)
    for stamp in range(SECOND, 30 * SECOND, SECOND):
        talker.infos.publish(ros.info())
        talker.images.publish(ros.image(stamp))
        talker.points.publish(ros.cloud(stamp, many))
    talker.until(talker.labelled)
    assert process.end() == 0, process.log
    talker.close()
    assert "failed" not in process.log and "Traceback" not in process.log, process.log


@pytest.fixture
def run_main(monkeypatch, capfd):
    """`run_main(parameters, *arguments)`: the command's exit code and output, in this process."""
    package = logging.getLogger("tttkd_ros")
    handler, logs = signal.getsignal(signal.SIGINT), (package.handlers, package.level, package.propagate)
    monkeypatch.setattr(module.fastdds, "use_profile", lambda: None)

    def run(parameters, *arguments):
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={json.dumps(value)}")]
        return module.main(["--ros-args", *words, *arguments]), capfd.readouterr().err

    yield run
    signal.signal(signal.SIGINT, handler)
    package.handlers, package.level, package.propagate = logs


def test_the_executor_outlives_the_shutdown_until_which_rclpy_may_wake_it(run_main, monkeypatch):
    made, alive = [], []
    shut_down = rclpy.try_shutdown

    def make():
        executor = SingleThreadedExecutor()
        made.append(weakref.ref(executor))
        return executor

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "SingleThreadedExecutor", make)
    monkeypatch.setattr(module, "_spin", interrupted)
    monkeypatch.setattr(rclpy, "try_shutdown", lambda: (alive.append(made[0]() is not None), shut_down()))
    assert run_main({"autostart": False})[0] == 0
    assert alive == [True]
    assert made[0]() is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--params-file", "{folder}/broken.yaml"), "broken.yaml"), (("-r", "points:=lidar//points"), "lidar//points")],
)
def test_arguments_that_rclpy_cannot_read_are_an_error_without_a_traceback(run_main, tmp_path, arguments, words):
    (tmp_path / "broken.yaml").write_text("segmenter: {ros__parameters: [")
    code, output = run_main({}, *(argument.format(folder=tmp_path) for argument in arguments))
    assert code == 1
    assert "cannot start: " in output and words in output and "Traceback" not in output


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [({"engine": "cuda"}, 1, "parameter 'engine' is 'cuda': expected one of auto"),
     ({"build_only": True}, 0, "the teacher's engine is eager: it is not stored"),
     ({"build_only": True, "engine": "tensorrt", "device": "cpu"}, 1,
      "cannot build: teacher engine 'tensorrt' needs a CUDA device")],
)
def test_the_command_ends_at_once_with_the_reason(run_main, parameters, changes, code, words):
    ended, output = run_main(parameters | changes)
    assert (ended, words in output, "[FATAL]" in output) == (code, True, bool(code)), output


def test_an_interrupt_during_the_imports_is_an_ordinary_end(monkeypatch):
    class Interrupted(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setattr("tttkd_ros.ros.node", Interrupted("node"))
    assert start.main() == 0


def test_interrupts_while_the_adapter_is_built_end_the_node_and_its_process_once(start_node, parameters):
    process = start_node(parameters, "-r", "__node:=interrupted")
    process.wait_for("active: waiting for sweeps")
    started = children(process.process.pid)
    while process.process.poll() is None:  # an impatient user
        process.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert process.end() == 0, process.log
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert "Traceback" not in process.log
