"""Adapted weights in a file: in this process against fakes of a disk's moods, and through the services of a node."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from dataclasses import replace

import pytest
import torch

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from safetensors import safe_open  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from tttkd_ros.adaptation import state_file  # noqa: E402
from tttkd_ros.adaptation.config import TTTConfig  # noqa: E402
from tttkd_ros.adaptation.state_file import Origin, load_state  # noqa: E402
from tttkd_ros.pipeline import Pipeline  # noqa: E402
from tttkd_ros.ros.node import SegmenterNode  # noqa: E402
from tttkd_ros.ros.parameters import STATE_FILE  # noqa: E402
from tttkd_ros.ros.settings import Settings  # noqa: E402
from tttkd_ros.ros.state_services import AdaptedState  # noqa: E402
from tttkd_ros.segmenter.checkpoint import load_student  # noqa: E402
from tttkd_ros.segmenter.weights import Weights  # noqa: E402

SECOND = 10**9
PATIENCE = 20  # seconds until a test that waits in vain fails


class Bench:
    """An `AdaptedState` over a pipeline whose progress is made by hand."""

    def __init__(self, node, student, settings):
        self.node, self.origin = node, Origin.of(student)
        self.pipeline = Pipeline(student, None, TTTConfig(), background=True)
        self.shipped = self.pipeline.weights
        self.state = AdaptedState(node, self.pipeline, self.origin, settings)

    def learn(self, steps: int) -> Weights:
        tensors = {name: tensor + 0.01 * steps for name, tensor in self.pipeline.weights.tensors.items()}
        self.pipeline.load_weights(Weights(self.pipeline.weights.version + steps, tensors))
        return self.pipeline.weights

    def file(self, path) -> None:
        self.node.set_parameters([Parameter(STATE_FILE, value=str(path))])

    def done(self, action) -> tuple[bool, str]:
        future = action()
        deadline = time.monotonic() + PATIENCE
        while not future.done():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.005)
        return future.result()


@pytest.fixture
def make_bench(models):
    context = rclpy.Context()
    rclpy.init(context=context)
    made = []

    def make(file="", **changes) -> Bench:
        node = rclpy.create_node("segmenter", context=context)
        node.declare_parameter(STATE_FILE, str(file))
        settings = replace(Settings(model=str(models.student)), **changes)
        made.append(Bench(node, load_student(models.student), settings))
        return made[-1]

    yield make
    for bench in made:
        bench.state.close()
        bench.node.destroy_node()
    rclpy.try_shutdown(context=context)


def same(one: Weights, other: Weights) -> bool:
    return all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def steps_in(path) -> int:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["provenance"])["steps"]


@pytest.mark.parametrize("action", ["save", "load"])
def test_without_a_file_the_parameter_is_named(make_bench, action):
    success, message = (bench := make_bench()).done(getattr(bench.state, action))
    assert not success
    assert message == "the parameter state.file is empty: set it to the file for the adapted weights"


def test_what_was_saved_is_published_again_under_a_new_version(make_bench, tmp_path):
    bench = make_bench(tmp_path / "adapted")
    saved = bench.learn(5)
    assert bench.done(bench.state.save)[0]
    bench.learn(2)
    success, message = bench.done(bench.state.load)
    assert success
    assert message.endswith("continues as version 8")
    assert bench.pipeline.weights.version == 8
    assert same(bench.pipeline.weights, saved)


def test_the_file_tells_all_steps_since_the_checkpoint(make_bench, tmp_path):
    bench = make_bench(tmp_path / "adapted")
    bench.learn(5)
    bench.done(bench.state.save)
    bench.learn(2)
    bench.done(bench.state.load)
    bench.learn(3)
    bench.done(bench.state.save)
    assert steps_in(tmp_path / "adapted") == 5 + 3
    bench.state.reset()
    bench.learn(20)
    bench.done(bench.state.save)
    assert steps_in(tmp_path / "adapted") == 20


def test_the_file_tells_node_and_model(make_bench, models, tmp_path):
    bench = make_bench(tmp_path / "adapted")
    bench.done(bench.state.save)
    provenance = load_state(tmp_path / "adapted", bench.origin).provenance
    assert (provenance.node, provenance.model) == ("/segmenter", str(models.student))


def test_a_relative_file_is_in_the_working_directory_and_a_tilde_is_home(make_bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    bench = make_bench("here")
    for file, path in (("deep/here", tmp_path / "deep/here"), ("~/there", tmp_path / "home/there")):
        bench.file(file)
        assert bench.done(bench.state.save)[0]
        assert path.is_file()
        assert str(path) in bench.done(bench.state.load)[1]


@pytest.mark.parametrize("file", ["~nobody-of-that-name/file", "\0", "/proc/version/file"])
def test_a_file_that_cannot_be_is_refused(make_bench, file):
    bench = make_bench(file)
    assert not bench.done(bench.state.save)[0]
    assert not bench.done(bench.state.load)[0]


def test_a_refused_file_changes_nothing(make_bench, tmp_path):
    (tmp_path / "adapted").write_bytes(b"nonsense")
    bench = make_bench(tmp_path / "adapted")
    before = bench.learn(3)
    success, message = bench.done(bench.state.load)
    assert not success
    assert "not a safetensors file, or cut short" in message
    assert bench.pipeline.weights is before


def test_an_error_that_nobody_foresaw_is_an_answer_too(make_bench, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("none left")

    monkeypatch.setattr("tttkd_ros.ros.state_services.load_state", fail)
    bench = make_bench(tmp_path / "adapted")
    assert bench.done(bench.state.load) == (False, "MemoryError: none left")


def autosaved(bench) -> None:
    bench.state.autosave()
    bench.state._autosaving.result(PATIENCE)


def test_autosave_writes_only_what_is_new(make_bench, tmp_path):
    path = tmp_path / "adapted"
    bench = make_bench(path, autosave=1000.0)
    autosaved(bench)
    assert not path.exists()
    learnt = bench.learn(2)
    autosaved(bench)
    assert same(load_state(path, bench.origin).weights, learnt)
    path.unlink()
    autosaved(bench)
    assert not path.exists()
    bench.learn(1)
    autosaved(bench)
    assert load_state(path, bench.origin).weights.version == 3


def test_what_is_loaded_needs_no_saving(make_bench, tmp_path):
    bench = make_bench(tmp_path / "adapted", autosave=1000.0)
    bench.learn(2)
    autosaved(bench)
    bench.done(bench.state.load)
    (tmp_path / "adapted").unlink()
    autosaved(bench)
    assert not (tmp_path / "adapted").exists()


def test_the_end_saves_what_is_new_if_autosave_is_on(make_bench, tmp_path):
    for name, seconds in (("on", 1000.0), ("off", 0.0)):
        bench = make_bench(tmp_path / name, autosave=seconds)
        bench.learn(1)
        bench.state.close()
    assert [path.name for path in tmp_path.iterdir()] == ["on"]


def test_autosave_comes_at_intervals(make_bench, tmp_path):
    bench = make_bench(tmp_path / "adapted", autosave=0.05)
    bench.learn(1)
    executor = SingleThreadedExecutor(context=bench.node.context)
    executor.add_node(bench.node)
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "adapted").exists():
        assert time.monotonic() < deadline, "waited in vain"
        executor.spin_once(timeout_sec=0.02)
    executor.shutdown()


def test_autosave_leaves_the_file_of_another_model_and_complains(make_bench, tmp_path, capfd):
    (tmp_path / "adapted").write_bytes(b"somebody's work")
    bench = make_bench(tmp_path / "adapted", autosave=1000.0)
    bench.learn(1)
    autosaved(bench)
    assert (tmp_path / "adapted").read_bytes() == b"somebody's work"
    assert "state.autosave: nothing saved: " in capfd.readouterr().err
    assert bench.done(bench.state.save)[0]  # asked to, it is overwritten, and from now on kept
    bench.learn(1)
    autosaved(bench)
    assert load_state(tmp_path / "adapted", bench.origin).weights.version == 2


@pytest.mark.parametrize("file", ["", "/proc/version/file"])
def test_a_failing_autosave_complains_and_is_tried_again(make_bench, tmp_path, capfd, file):
    bench = make_bench(file, autosave=1000.0)
    bench.learn(1)
    autosaved(bench)
    assert "state.autosave: nothing saved: " in capfd.readouterr().err
    bench.file(tmp_path / "adapted")
    autosaved(bench)
    assert (tmp_path / "adapted").exists()


def test_at_start_the_file_is_gone_on_from(make_bench, tmp_path):
    first = make_bench(tmp_path / "adapted")
    learnt = first.learn(6)
    first.done(first.state.save)
    second = make_bench(tmp_path / "adapted")
    second.state.restore()
    assert second.pipeline.weights.version == 1
    assert same(second.pipeline.weights, learnt)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no adapted weights at"), (b"nonsense", "not a safetensors file")]
)
def test_at_start_a_file_that_is_missing_or_refused_is_told_and_the_model_goes_on(
    make_bench, tmp_path, capfd, content, said
):
    if content:
        (tmp_path / "adapted").write_bytes(content)
    bench = make_bench(tmp_path / "adapted")
    bench.state.restore()
    told = capfd.readouterr().err
    assert said in told
    assert "starts with the weights of the model" in told
    assert ("[ERROR]" in told) == bool(content)
    assert bench.pipeline.weights is bench.shipped


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENOSPC, "(No space left on device): free space on that disk, or name a file on another one"),
     (errno.EDQUOT, "(Disk quota exceeded): free space on that disk, or name a file on another one"),
     (errno.EIO, "(Input/output error): name another file")],
)
def test_a_disk_that_takes_nothing_is_told_with_the_file_and_the_remedy(
    make_bench, tmp_path, monkeypatch, capfd, number, told
):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    bench = make_bench(tmp_path / "adapted", autosave=1000.0)
    bench.learn(1)
    expected = f"{tmp_path / 'adapted'} cannot be written {told}"
    assert bench.done(bench.state.save) == (False, expected)
    bench.state.autosave()
    bench.state.close()
    said = capfd.readouterr().err
    assert f"state.autosave: nothing saved: {expected}" in said
    assert "Traceback" not in said


def test_closing_ends_the_thread(make_bench, tmp_path):
    bench = make_bench(tmp_path / "adapted", autosave=1000.0)
    bench.done(bench.state.save)
    bench.state.close()
    assert not any(thread.name.startswith("state") for thread in threading.enumerate())


def test_an_executor_that_has_nothing_else_to_do_is_woken_when_a_save_is_done(make_bench, tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr("tttkd_ros.adaptation.state_file.write_whole", lambda *_: gate.wait(PATIENCE))
    bench = make_bench(tmp_path / "adapted")

    async def callback():
        return await bench.state.save()

    executor = SingleThreadedExecutor(context=bench.node.context)
    executor.add_node(bench.node)
    task = executor.create_task(callback)
    threading.Timer(0.2, gate.set).start()  # by then the executor waits for whatever may come
    executor.spin_until_future_complete(task, timeout_sec=PATIENCE)
    executor.shutdown()
    assert task.done()
    assert task.result()[0]


@pytest.fixture
def spinning(models, ros, tmp_path):
    """A node of this process, its executor in a thread; and who talks to it."""
    context = rclpy.Context()
    rclpy.init(context=context)
    parameters = {"model": str(models.student), "cameras": [""], STATE_FILE: str(tmp_path / "adapted")}
    node = SegmenterNode(
        context=context, cli_args=["--ros-args", "-r", "points:=/lidar/points"],
        parameter_overrides=[Parameter(name, value=value) for name, value in parameters.items()],
    )
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    talker = ros.Talker()
    yield node, talker
    talker.close()
    executor.shutdown()
    thread.join(PATIENCE)
    node.close()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_while_a_disk_is_slow_sweeps_are_answered_and_the_save_when_it_is_done(spinning, ros, tmp_path, monkeypatch):
    gate, write = threading.Event(), state_file.write_whole
    monkeypatch.setattr(state_file, "write_whole", lambda *what: gate.wait(PATIENCE) and write(*what))
    node, talker = spinning
    node.trigger_configure()
    node.trigger_activate()
    talker.until(talker.points.get_subscription_count)
    talker.until(lambda: talker.node.count_publishers("/segmenter/points_labeled"))
    client = talker.node.create_client(Trigger, "/segmenter/save")
    talker.until(client.service_is_ready)
    asked = client.call_async(Trigger.Request())
    for stamp in range(1, 4):
        talker.answer(ros.cloud(stamp))
    assert not asked.done()
    gate.set()
    talker.until(asked.done)
    assert asked.result().success
    assert (tmp_path / "adapted").exists()


@pytest.mark.parametrize("service", ["save", "load"])
def test_a_node_that_is_not_configured_has_nothing_to_save_or_load(spinning, service):
    _, talker = spinning
    answer = talker.call(Trigger, f"/segmenter/{service}")
    assert (answer.success, answer.message) == (False, "not configured: configure the node first")


def settings(models, **more) -> dict[str, object]:
    return {
        "model": str(models.student), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager",
        "qos.reliability": "reliable", "qos.depth": 100, "ttt.stride": 1, "matching.wait": 0.3,
        "motion.fixed_frame": "", **more,
    }


def step(talker, ros, stamp: int) -> dict[str, str]:
    """A sweep with an image at its stamp; what ~/adaptation says of it. Again, nanoseconds later, while it is the
    CameraInfo that the node lacks: topics do not wait for one another."""
    while True:
        talker.infos.publish(ros.info())
        talker.images.publish(ros.image(stamp))
        talker.answer(ros.cloud(stamp))
        talker.until(lambda stamp=stamp: stamp in talker.reports())
        report = talker.reports()[stamp]
        if "no usable CameraInfo yet" not in report["reason"]:
            assert report["accepted"] == "true", report
            return report
        stamp += 1


def test_a_node_saves_loads_and_restarts_with_what_it_learnt(start_node, models, ros, tmp_path):
    file = tmp_path / "states" / "adapted"
    parameters = settings(models, **{
        STATE_FILE: str(file), "ttt.learning_rate": 10.0, "state.load_at_start": True, "state.autosave": 1000.0,
        "ttt.bn_momentum": 0.0,  # otherwise a sweep without an image is a new version, too
    })
    process = start_node(parameters, "-r", "__node:=first")
    process.wait_for("active: waiting for sweeps")
    assert "starts with the weights of the model" in process.log
    process.wait_for("learning from", 120)  # the teacher is loaded while sweeps are already labelled
    talker = ros.Talker("first")
    talker.until(talker.connected)
    step(talker, ros, 100 * SECOND)
    (learnt,) = talker.answer(ros.cloud(150 * SECOND))
    assert talker.call(Trigger, "/first/save").success
    assert step(talker, ros, 200 * SECOND)["version"] == "2"
    (later,) = talker.answer(ros.cloud(250 * SECOND))
    loaded = talker.call(Trigger, "/first/load")
    (again,) = talker.answer(ros.cloud(300 * SECOND))
    assert loaded.success, loaded.message
    assert later.data != learnt.data
    assert again.data == learnt.data
    assert step(talker, ros, 350 * SECOND)["version"] == "4"
    (last,) = talker.answer(ros.cloud(375 * SECOND))
    talker.close()
    assert process.end() == 0  # an interrupt, at which it saves version 4

    process = start_node(parameters | {"cameras": [""]}, "-r", "__node:=second")
    process.wait_for("active: waiting for sweeps")
    assert f"loaded {file}: 2 steps from '{models.student}' by /first, saved at 20" in process.log
    talker = ros.Talker("second")
    talker.until(talker.points.get_subscription_count)
    talker.until(lambda: talker.node.count_publishers("/second/points_labeled"))
    (restarted,) = talker.answer(ros.cloud(400 * SECOND))
    assert restarted.data == last.data
    talker.close()
    before = file.stat()
    assert process.end() == 0
    assert file.stat() == before  # there was nothing new to save
