"""The node as its own process, over DDS."""

from __future__ import annotations

import array
import itertools
import json
import time

import numpy as np
import pytest
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParametersAtomically
from sensor_msgs.msg import Image, PointField
from std_srvs.srv import Trigger

from tttkd_ros.classes import OUTDOOR, UNLABELLED
from tttkd_ros.messages.point_cloud import decode_cloud, decode_field

SECOND = 10**9
STAMPS = itertools.count(100 * SECOND, SECOND)  # far enough apart for no image to fit another test's sweep


@pytest.fixture(scope="module")
def node(start_node, models):
    process = start_node({
        "model": str(models.student), "teacher": str(models.teacher), "rig": str(models.rig), "engine": "eager",
        "qos.reliability": "reliable", "qos.depth": 100, "queue": 100, "ttt.stride": 1, "matching.wait": 0.3,
    })
    process.wait_for("active: waiting for sweeps")
    process.wait_for("ready to adapt")
    return process


@pytest.fixture(scope="module")
def shared_talker(node, ros):
    with ros.connected_talker() as talker:
        yield talker


@pytest.fixture
def talker(shared_talker, node):
    """With adaptation as the node starts it, and nothing of other tests in flight."""
    yield shared_talker
    assert node.process.poll() is None, node.log
    assert set_parameters(shared_talker, **{"ttt.stride": 1, "ttt.learning_rate": 0.1}).successful


def set_parameters(talker, **parameters):
    request = SetParametersAtomically.Request()
    for name, value in parameters.items():
        kind = {bool: "bool", int: "integer", float: "double", str: "string"}[type(value)]
        number = {"bool": 1, "integer": 2, "double": 3, "string": 4}[kind]
        request.parameters.append(Parameter(name=name, value=ParameterValue(type=number, **{f"{kind}_value": value})))
    return talker.call(SetParametersAtomically, "/segmenter/set_parameters_atomically", request).result


def step(talker, ros, image=None, info=None) -> dict[str, str]:
    """A sweep with an image at its stamp; its report on ~/adaptation."""
    stamp = next(STAMPS)
    talker.infos.publish(info or ros.info())
    talker.images.publish(image(stamp) if image else ros.image(stamp))
    talker.answer(ros.cloud(stamp))
    talker.until(lambda: stamp in talker.reports())
    return talker.reports()[stamp]


def test_every_sweep_is_answered_in_order_with_its_stamp_frame_and_size(talker, ros):
    clouds = [ros.cloud(next(STAMPS), ros.points(count, seed=count), frame=f"lidar_{count}") for count in range(1, 41)]
    answers = talker.answer(*clouds)
    assert [answer.header for answer in answers] == [cloud.header for cloud in clouds]
    assert [(answer.height, answer.width) for answer in answers] == [(1, count) for count in range(1, 41)]


def test_an_answer_holds_the_points_and_labels_of_its_model(talker, ros, models):
    from tttkd_ros.segmenter.checkpoint import load_student
    from tttkd_ros.segmenter.segmenter import Segmenter

    talker.call(Trigger, "/segmenter/reset")
    sent = ros.points()
    (answer,) = talker.answer(ros.cloud(next(STAMPS), sent))
    cloud = decode_cloud(answer)
    expected = Segmenter(load_student(models.student)).segment(sent[:, :3])
    np.testing.assert_array_equal(cloud.points, sent[:, :3])
    np.testing.assert_array_equal(cloud.intensity, sent[:, 3])
    np.testing.assert_array_equal(decode_field(answer, "label"), expected.labels)
    np.testing.assert_allclose(decode_field(answer, "confidence"), expected.confidence, atol=1e-5)
    assert [field.name for field in answer.fields] == ["x", "y", "z", "intensity", "label", "confidence", "rgb"]
    assert all(field.offset % 4 == 0 for field in answer.fields)


def test_points_that_are_not_finite_keep_their_place_unlabelled(talker, ros):
    sent = ros.points(200)
    sent[7, 0], sent[100, 2], sent[199] = np.nan, np.inf, -np.inf
    (answer,) = talker.answer(ros.cloud(next(STAMPS), sent))
    cloud = decode_cloud(answer)
    np.testing.assert_array_equal(cloud.points, sent[:, :3])
    np.testing.assert_array_equal(np.flatnonzero(decode_field(answer, "label") == UNLABELLED), [7, 100, 199])
    assert not answer.is_dense


def test_an_empty_cloud_gets_an_empty_answer(talker, ros):
    sent = ros.cloud(next(STAMPS), ros.points(0))
    (answer,) = talker.answer(sent)
    assert (answer.header, answer.width, len(answer.data)) == (sent.header, 0, 0)


def test_an_empty_cloud_may_claim_any_width(talker, ros):
    sent = ros.cloud(next(STAMPS), ros.points(0))
    sent.height, sent.width, sent.row_step = 0, 2**32 - 1, 0
    (answer,) = talker.answer(sent)
    assert (answer.height, answer.width, len(answer.data)) == (0, 2**32 - 1, 0)


def big_endian(message, data):
    message.is_bigendian = True
    return data.astype(">f4").tobytes()


def padded_rows(message, data):
    message.height, message.width, message.row_step = 4, len(data) // 4, 4 * len(data) + 6
    return b"".join(row.tobytes() + b"\xff" * 6 for row in data.reshape(4, -1, 4))


def organised(message, data):
    message.height, message.width, message.row_step = 5, len(data) // 5, 16 * len(data) // 5
    return data.tobytes()


def double_x(message, data):
    message.fields = [PointField(name=n, offset=o, datatype=d, count=1)
                      for n, o, d in (("y", 0, 7), ("x", 4, 8), ("z", 12, 7), ("intensity", 16, 7))]
    message.point_step, message.row_step = 20, 20 * len(data)
    table = np.zeros(len(data), [("y", "<f4"), ("x", "<f8"), ("z", "<f4"), ("i", "<f4")])
    table["x"], table["y"], table["z"], table["i"] = data.T
    return table.tobytes()


@pytest.mark.parametrize("layout", [big_endian, padded_rows, organised, double_x])
def test_odd_layouts_are_answered_point_by_point(talker, ros, layout):
    sent = ros.points(200)
    message = ros.cloud(next(STAMPS), sent)
    message.data = layout(message, sent)
    (answer,) = talker.answer(message)
    np.testing.assert_array_equal(decode_cloud(answer).points, sent[:, :3])
    assert (answer.height, answer.width) == (message.height, message.width)


def without_z(message):
    message.fields = message.fields[:2]


def too_short(message):
    message.data = message.data[:-1]


@pytest.mark.parametrize(
    ("damage", "message_part"), [(without_z, "cloud has no field 'z'"), (too_short, "cloud data hold")]
)
def test_a_cloud_that_cannot_be_read_is_warned_of_and_survived(talker, ros, node, damage, message_part):
    bad = ros.cloud(next(STAMPS))
    damage(bad)
    talker.points.publish(bad)
    after = ros.cloud(next(STAMPS))
    assert talker.answer(after)[0].header == after.header
    node.wait_for(f"cannot be read, so it gets no labels: {message_part}", 5)


def test_a_step_with_an_image_is_accepted_and_reported(talker, ros):
    talker.call(Trigger, "/segmenter/reset")
    report = step(talker, ros)
    assert (report["accepted"], report["reason"], report["version"]) == ("true", "", "1"), report
    assert (report["cameras"], report["stride"], report["learning_rate"]) == ("camera_front", "1", "0.1")
    assert float(report["cosine"]) == -float(report["loss"])
    assert int(report["points"]) > 100


def too_narrow(ros):
    return {"image": lambda stamp: ros.image(stamp, width=64)}


def odd_encoding(ros):
    return {"image": lambda stamp: ros.image(stamp, encoding="purple")}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(too_narrow, "image is 64x56, its CameraInfo allows 112x56"), (odd_encoding, "image encoding is 'purple'")],
)
def test_an_image_that_cannot_be_used_costs_a_step_but_no_cloud(talker, ros, node, damage, reason):
    report = step(talker, ros, **damage(ros))
    assert report["accepted"] == "false"
    assert reason in report["reason"]
    node.wait_for(reason, 5)
    assert step(talker, ros)["accepted"] == "true"


@pytest.mark.parametrize(
    ("info", "message_part"), [({"focal": 0.0}, "focal length"), ({"focal": float("nan")}, "not all finite")]
)
def test_a_bad_camera_info_is_warned_of_and_the_last_good_one_stays(talker, ros, node, info, message_part):
    assert step(talker, ros)["accepted"] == "true"
    assert step(talker, ros, info=ros.info(**info))["accepted"] == "true"
    node.wait_for("camera_front/camera_info: ", 5)
    assert message_part in node.log


def test_a_sweep_without_its_image_is_answered_and_its_step_rejected(talker, ros):
    step(talker, ros)
    stamp = next(STAMPS)
    talker.answer(ros.cloud(stamp))
    talker.until(lambda: stamp in talker.reports())
    report = talker.reports()[stamp]
    assert report["accepted"] == "false"
    told = "no camera image: camera_front: the nearest image is 1.000 s too old, the tolerance 0.05 s"
    assert report["reason"].startswith(told)


def test_an_image_that_comes_after_its_sweep_still_trains(talker, ros):
    assert step(talker, ros)["accepted"] == "true"
    stamp = next(STAMPS)
    talker.answer(ros.cloud(stamp))
    talker.images.publish(ros.image(stamp + 40_000_000))
    talker.until(lambda: stamp in talker.reports())
    assert talker.reports()[stamp]["accepted"] == "true"


def test_with_a_camera_slower_than_the_lidar_a_due_step_falls_to_the_next_sweep_with_an_image(talker, ros):
    step(talker, ros)
    assert set_parameters(talker, **{"ttt.stride": 3}).successful
    stamps = [next(STAMPS) for _ in range(8)]  # the step is due at the third, with an image from the fifth and eighth
    for number, stamp in enumerate(stamps, 1):
        if number in (5, 8):
            talker.images.publish(ros.image(stamp))
        talker.answer(ros.cloud(stamp))
        if number in (3, 5, 8):
            talker.until(lambda stamp=stamp: stamp in talker.reports())
    told = {number: talker.reports()[stamp]["accepted"]
            for number, stamp in enumerate(stamps, 1) if stamp in talker.reports()}  # fmt: skip
    assert told == {3: "false", 5: "true", 8: "true"}


def test_learning_rate_and_stride_apply_from_the_next_step_on(talker, ros):
    assert set_parameters(talker, **{"ttt.stride": 3, "ttt.learning_rate": 0.25}).successful
    stamps = [next(STAMPS) for _ in range(6)]
    for number, stamp in enumerate(stamps, 1):
        talker.images.publish(ros.image(stamp))
        talker.answer(ros.cloud(stamp))
        if number % 3 == 0:
            talker.until(lambda stamp=stamp: stamp in talker.reports())
    trained = [stamp for stamp in stamps if stamp in talker.reports()]
    assert trained == [stamps[2], stamps[5]]
    assert {(talker.reports()[s]["stride"], talker.reports()[s]["learning_rate"]) for s in trained} == {("3", "0.25")}


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"ttt.stride": 0}, "ttt.stride out of range. Min: 1"),
     ({"ttt.learning_rate": 11.0}, "ttt.learning_rate out of range Min"),
     ({"ttt.learning_rate": float("nan")}, "ttt.learning_rate out of range"),
     ({"ttt.stride": 2, "ttt.steps": -1}, "ttt.steps out of range"),
     ({"ttt.stride": 2.5}, "Wrong parameter type"),
     ({"model": "other.safetensors"}, "read-only")],
)
def test_a_refused_change_says_why_and_changes_nothing(talker, ros, parameters, reason):
    result = set_parameters(talker, **parameters)
    assert not result.successful
    assert reason in result.reason
    report = step(talker, ros)
    assert (report["stride"], report["learning_rate"]) == ("1", "0.1")


def test_paused_the_node_answers_but_does_not_train(talker, ros):
    assert talker.call(Trigger, "/segmenter/pause").success
    stamp = next(STAMPS)
    talker.images.publish(ros.image(stamp))
    talker.answer(*(ros.cloud(stamp) for _ in range(3)))
    paused = diagnostics(talker, ros, "adaptation")
    assert talker.call(Trigger, "/segmenter/resume").success
    assert (paused["adaptation"], paused["paused"]) == ("paused", "true")
    assert stamp not in talker.reports()
    assert step(talker, ros)["accepted"] == "true"


def test_reset_brings_back_the_answers_of_the_checkpoint(talker, ros):
    talker.call(Trigger, "/segmenter/reset")
    sent = ros.cloud(next(STAMPS))
    (shipped,) = talker.answer(sent)
    assert set_parameters(talker, **{"ttt.learning_rate": 10.0}).successful
    steps = [step(talker, ros) for _ in range(3)]
    assert [told["accepted"] for told in steps] == ["true"] * 3
    (adapted,) = talker.answer(sent)
    assert talker.call(Trigger, "/segmenter/reset").success
    (reset,) = talker.answer(sent)
    assert adapted.data != shipped.data
    assert reset.data == shipped.data
    # The first version, or the second: BatchNorm's statistics may have followed the sweep without an image.
    assert int(step(talker, ros)["version"]) <= 2 < int(steps[-1]["version"])


def diagnostics(talker, ros, part: str) -> dict[str, str]:
    """Of the second second from now: the first may have been put together before."""
    before = len(talker.heard["/diagnostics"])
    talker.until(lambda: len(talker.heard["/diagnostics"]) >= before + 2)
    statuses = {status.name: status for status in talker.heard["/diagnostics"][-1].status}
    return ros.values(statuses[f"segmenter: {part}"])


def test_diagnostics_count_sweeps_and_steps_and_time_the_stages(talker, ros):
    before = diagnostics(talker, ros, "sweeps")
    talker.answer(ros.cloud(next(STAMPS)), ros.cloud(next(STAMPS)))
    after = diagnostics(talker, ros, "sweeps")
    assert int(after["sweeps in"]) - int(before["sweeps in"]) == 2
    assert int(after["sweeps out"]) - int(before["sweeps out"]) == 2
    assert after["sweeps dropped"] == "0"
    stages = [float(after[f"{stage} p50 ms"]) for stage in ("decode", "segment", "encode", "publish")]
    assert 0 < sum(stages) < 2 * float(after["latency p50 ms"])
    assert float(after["latency p50 ms"]) <= float(after["latency p95 ms"]) <= float(after["latency p99 ms"])
    accepted = int(diagnostics(talker, ros, "adaptation")["accepted"])
    assert step(talker, ros)["accepted"] == "true"
    assert int(diagnostics(talker, ros, "adaptation")["accepted"]) == accepted + 1


def test_label_info_is_latched(talker):
    talker.until(lambda: talker.heard["/segmenter/label_info"])
    info = json.loads(talker.heard["/segmenter/label_info"][0].data)
    assert info["unlabelled"] == UNLABELLED
    assert [(c["id"], c["name"], tuple(c["colour"])) for c in info["classes"]] == [
        (number, *pair) for number, pair in enumerate(zip(OUTDOOR.names, OUTDOOR.colours, strict=True))
    ]


def test_the_overlay_is_drawn_while_it_has_a_subscriber(talker, ros):
    topic = "/segmenter/overlay/camera_front"
    subscription = talker.listen(Image, topic)
    talker.until(lambda: subscription.get_publisher_count() > 0)

    def shown():  # the node learns of the subscription a little after we learn of the node
        step(talker, ros)
        return talker.heard[topic]

    talker.until(shown)
    talker.node.destroy_subscription(subscription)
    overlay = talker.heard[topic][0]
    assert (overlay.width, overlay.height, overlay.encoding) == (112, 56, "rgb8")
    assert overlay.header.frame_id == "camera_front_optical"
    pixels = np.asarray(overlay.data).reshape(-1, 3)
    assert (pixels[:, None] == np.array(OUTDOOR.colours)).all(-1).any(1).sum() > 100


def test_the_overlay_of_features_has_the_colours_of_the_students_features(talker, ros):
    topic = "/segmenter/overlay/camera_front/features"
    subscription = talker.listen(Image, topic)
    talker.until(lambda: subscription.get_publisher_count() > 0)

    def black(stamp):
        image = ros.image(stamp)
        image.data = array.array("B", bytes(len(image.data)))
        return image

    def shown():
        step(talker, ros, black)
        return talker.heard[topic]

    talker.until(shown)
    talker.node.destroy_subscription(subscription)
    pixels = np.asarray(talker.heard[topic][0].data).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50  # labels have ten colours


def test_a_managed_node_answers_only_while_it_is_active_and_ends_cleanly(start_node, models, ros):
    process = start_node({"autostart": False, "model": str(models.student), "cameras": [""]}, "-r", "__node:=managed")
    talker = ros.Talker("managed")

    def state() -> int:
        return talker.call(GetState, "/managed/get_state").current_state.id

    def change(transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return talker.call(ChangeState, "/managed/change_state", request).success

    def answered(seconds: float) -> bool:
        """Whether one of some sweeps is: the first may be too early for the node's new subscription."""
        before, deadline = len(talker.labelled()), time.monotonic() + seconds
        while len(talker.labelled()) == before and time.monotonic() < deadline:
            talker.points.publish(ros.cloud(next(STAMPS)))
            moment = time.monotonic() + 0.2
            talker.until(lambda moment=moment: time.monotonic() > moment)
        return len(talker.labelled()) > before

    try:
        talker.until(lambda: talker.node.count_publishers("/diagnostics") > 0, 60)
        assert state() == State.PRIMARY_STATE_UNCONFIGURED
        assert not talker.call(Trigger, "/managed/reset").success
        assert change(Transition.TRANSITION_CONFIGURE)
        talker.until(lambda: talker.points.get_subscription_count() > 0)
        talker.until(lambda: talker.node.count_publishers("/managed/points_labeled"))
        assert state() == State.PRIMARY_STATE_INACTIVE
        assert not answered(1)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert answered(20)  # with no camera at all
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert not answered(1)
        assert change(Transition.TRANSITION_CLEANUP)
        assert state() == State.PRIMARY_STATE_UNCONFIGURED
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert answered(20)
        assert process.end() == 0, process.log
    finally:
        talker.close()
