"""A student that takes image features, in the node: a cloud waits for its images, but no longer than it may."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from std_srvs.srv import Trigger  # noqa: E402

from tttkd_ros.adaptation.targets import image_features  # noqa: E402
from tttkd_ros.frame import Frame, View  # noqa: E402
from tttkd_ros.geometry.camera import CameraModel  # noqa: E402
from tttkd_ros.messages.image import decode_image  # noqa: E402
from tttkd_ros.messages.matching import PATIENCE  # noqa: E402
from tttkd_ros.messages.point_cloud import decode_field  # noqa: E402
from tttkd_ros.ros.image_injector import MAX_WAIT_S, ImageInjector  # noqa: E402
from tttkd_ros.segmenter.checkpoint import load_student, save_student  # noqa: E402
from tttkd_ros.segmenter.segmenter import Segmenter  # noqa: E402
from tttkd_ros.segmenter.student import Student  # noqa: E402
from tttkd_ros.teacher.foundation_model import load_teacher  # noqa: E402

SECOND = 10**9
STAMPS = itertools.count(100 * SECOND, SECOND)
WAIT_S = 0.6
LIDAR_TO_CAMERA = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def injecting(models, ros, tmp_path_factory):
    """Path of a student with injection, whose labels depend on the images."""
    import torch

    torch.manual_seed(1)
    config = load_student(models.student).config
    student = Student(replace(config, injection="decoder", image_dim=config.teacher_dim)).eval()
    with torch.no_grad():
        logits = student.logits(student(torch.tensor(ros.points()[:, :3])))
        student.class_head[-1].bias -= logits.mean(0)  # so that no class wins everywhere
    path = tmp_path_factory.mktemp("injecting") / "student.safetensors"
    save_student(student, path, {"made": "at random, for tests"})
    return path


@pytest.fixture(scope="module")
def node(start_node, models, injecting):
    process = start_node({
        "model": str(injecting), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager",
        "qos.reliability": "reliable", "qos.depth": 100, "queue": 100, "ttt.stride": 1, "injection.wait": WAIT_S,
    })
    process.wait_for("injects the features of teacher")
    process.wait_for("ready to adapt")
    return process


@pytest.fixture(scope="module")
def talker(node, ros):
    with ros.connected_talker() as talker:
        talker.infos.publish(ros.info())
        talker.answer(ros.cloud(next(STAMPS)))
        yield talker


def expected(injecting, models, ros, stamp, images=()):
    """The labels, and which points an image shows, computed without the node."""
    student = load_student(injecting)
    teacher = load_teacher(models.teacher, input_size=student.config.teacher_input, engine="eager")
    camera = CameraModel(width=ros.WIDTH, height=ros.HEIGHT, fx=ros.FOCAL, fy=ros.FOCAL, cx=ros.WIDTH / 2,
                         cy=ros.HEIGHT / 2)
    views = tuple(View("camera_front", stamp, decode_image(image), camera, LIDAR_TO_CAMERA) for image in images)
    frame = Frame(stamp, ros.points()[:, :3], views)
    features = image_features(frame, teacher)
    return Segmenter(student).segment(frame.points, images=features).labels, features.patch.numpy() >= 0


def test_labels_rest_on_the_image_that_came_after_its_sweep(talker, node, ros, injecting, models):
    talker.images.publish(ros.image(earlier := next(STAMPS)))  # a camera that has sent nothing is not awaited
    talker.answer(ros.cloud(earlier))
    talker.until(lambda: earlier in talker.reports())
    talker.call(Trigger, "/segmenter/reset")  # of what was learned meanwhile
    stamp, before = next(STAMPS), len(talker.labelled())
    talker.points.publish(ros.cloud(stamp))
    image = ros.image(stamp + 5)
    talker.images.publish(image)
    talker.until(lambda: len(talker.labelled()) > before)
    answer = talker.labelled()[-1]
    labels, seen = expected(injecting, models, ros, stamp, [image])
    without, _ = expected(injecting, models, ros, stamp)
    np.testing.assert_array_equal(decode_field(answer, "seen"), seen)
    np.testing.assert_array_equal(decode_field(answer, "label"), labels)
    assert 0.1 < seen.mean() < 1 and (labels != without).mean() > 0.02
    talker.until(lambda: stamp in talker.reports())
    assert talker.reports()[stamp]["accepted"] == "true", talker.reports()[stamp]


def test_a_sweep_whose_image_never_comes_is_answered_after_the_wait(talker, node, ros):
    talker.images.publish(ros.image(next(STAMPS)))  # the camera lives
    stamp = next(STAMPS)
    start = time.monotonic()
    (answer,) = talker.answer(ros.cloud(stamp))
    assert 0.5 * WAIT_S < time.monotonic() - start < WAIT_S + 2
    assert not decode_field(answer, "seen").any()


def test_a_camera_that_is_silent_is_no_longer_waited_for(talker, node, ros):
    talker.answer(*(ros.cloud(next(STAMPS)) for _ in range(PATIENCE)))
    for _ in range(2):
        start = time.monotonic()
        talker.answer(ros.cloud(next(STAMPS)))
        assert time.monotonic() - start < WAIT_S / 2


def test_diagnostics_say_what_the_labels_rest_on(talker, node, ros):
    def sweeps():
        statuses = [status for message in talker.heard["/diagnostics"] for status in message.status]
        return [ros.values(status) for status in statuses if status.name.endswith("sweeps")]

    talker.images.publish(ros.image(stamp := next(STAMPS)))
    talker.answer(ros.cloud(stamp))
    talker.until(lambda: sweeps() and sweeps()[-1].get("images injected") == "1 of 1")
    assert sweeps()[-1]["points seen"] != "0%" and "images p50 ms" in sweeps()[-1]


class Teacher:
    dim, grid = 3, (1, 2)


@pytest.mark.parametrize(("wait_s", "period_s", "ago", "allowed"), [
    (0.2, 0.1, 0.0, 0.2), (0.0, 0.3, 0.0, 0.1), (0.0, float("inf"), 0.0, 1 / 30), (0.0, 60.0, 0.0, MAX_WAIT_S),
    (0.2, 0.1, 0.15, 0.05), (0.2, 0.1, 5.0, 0.0),
])
def test_the_wait_counts_from_the_arrival(wait_s, period_s, ago, allowed):
    given = []
    frame = Frame(1, np.zeros((4, 3), np.float32), missing={"camera_front": "it sent nothing"})
    injector = ImageInjector(Teacher(), 1, wait_s, 0)
    found, images = injector(lambda wait: given.append(wait) or frame, time.monotonic() - ago, period_s)
    assert given[0] == pytest.approx(allowed, abs=0.02) and found is frame
    assert images.patch.tolist() == [-1] * 4
    assert injector.last.images == 0 and injector.last.missing == "camera_front: it sent nothing"
