"""Transitions at any moment: what a node leaves behind, how long that takes, and what it survives."""

from __future__ import annotations

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
LIVES = 10
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


def test_ten_lives_cut_short_at_any_moment_leave_nothing_behind(start_node, parameters, ros):
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
    told = []
    monkeypatch.setattr(node, "get_logger", lambda: type("Log", (), {"fatal": told.append, "info": told.append}))
    assert node.trigger_activate() != TransitionCallbackReturn.SUCCESS  # never configured
    monkeypatch.setattr(module, "Runtime", lambda *_: 1 / 0)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "cannot configure: " in told[-1] and "ZeroDivisionError" in told[-1]
    monkeypatch.undo()
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_a_callback_that_raises_is_reported_and_the_others_go_on(make_node, monkeypatch):
    node, told, ticks = make_node(teacher=""), [], []
    monkeypatch.setattr(node, "get_logger", lambda: type("Log", (), {"error": told.append}))
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
    assert len(told) == 1
    assert "ZeroDivisionError" in told[0]


def test_a_node_that_is_interrupted_while_it_answers_and_learns_says_nothing_of_failures(start_node, parameters, ros):
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


def test_the_executor_outlives_the_shutdown_until_which_rclpy_may_wake_it(parameters, monkeypatch):
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
    before = signal.getsignal(signal.SIGINT)
    try:
        assert module.main(["--ros-args", "-p", "autostart:=false"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert alive == [True]
    assert made[0]() is None


def test_an_impatient_second_interrupt_does_not_cut_short_the_end_that_the_first_began(start_node, parameters):
    process = start_node(parameters, "-r", "__node:=impatient")
    process.wait_for("active: waiting for sweeps")
    while process.process.poll() is None:
        process.process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    assert process.end() == 0, process.log
    assert "Traceback" not in process.log


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--params-file", "{folder}/broken.yaml"), "broken.yaml"), (("-r", "points:=lidar//points"), "lidar//points")],
)
def test_what_rclpy_cannot_read_is_told_without_a_traceback(start_node, tmp_path, arguments, words):
    (tmp_path / "broken.yaml").write_text("segmenter: {ros__parameters: [")
    process = start_node({}, *(argument.format(folder=tmp_path) for argument in arguments))
    assert process.process.wait(60) == 1
    assert "cannot start: " in process.log and words in process.log
    assert "Traceback" not in process.log


def test_an_interrupt_while_the_command_is_still_being_imported_is_an_ordinary_end(monkeypatch):
    class Interrupted(ModuleType):
        def __getattr__(self, name):
            raise KeyboardInterrupt

    monkeypatch.setattr("tttkd_ros.ros.node", Interrupted("node"))
    assert start.main() == 0


def test_a_node_that_is_interrupted_while_its_adapter_is_built_ends_at_once(start_node, parameters):
    process = start_node(parameters, "-r", "__node:=interrupted")
    process.wait_for("active: waiting for sweeps")
    started = children(process.process.pid)
    assert process.end() == 0, process.log
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert "Traceback" not in process.log


def test_build_only_says_what_there_is_to_keep_and_ends(start_node, parameters):
    process = start_node(parameters | {"build_only": True}, "-r", "__node:=builder")
    assert process.process.wait(60) == 0
    assert "the teacher's engine is eager: there is nothing to keep" in process.log


def test_build_only_ends_with_an_error_where_there_is_no_engine(start_node, parameters):
    process = start_node(
        parameters | {"build_only": True, "engine": "tensorrt", "device": "cpu"}, "-r", "__node:=builder"
    )
    assert process.process.wait(60) == 1
    assert "cannot build: teacher engine 'tensorrt' needs a CUDA device" in process.log
