"""Replay sees what the node sees: the CameraInfo, the transforms and the frames in force at each message."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import yaml

from tttkd_ros.bags.reader import BagReader

CLOUD, IMAGE, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
TF = "tf2_msgs/msg/TFMessage"
START = 1_700_000_000 * 10**9
MS = 10**6
POINTS = np.arange(12, dtype=np.float32).reshape(4, 3)
IDENTITY = (0.0, 0.0, 0.0, 1.0)
FRAME = "camera_front_optical"


@pytest.fixture
def drive(make, write_messages):
    """`drive(sweeps, ...)`: the path of a bag of so many sweeps at 10 Hz, each with an image and its CameraInfo.

    focal(index), frame(index), lidar(index): of each. place: x of the LiDAR in the camera, by the index of the sweep
    before which it is published. before: whether a CameraInfo is recorded before its image.
    """

    def bag(
        sweeps=6, *, focal=lambda index: 5.0, frame=lambda index: FRAME, lidar=lambda index: "lidar", place=None,
        before=True, image="/camera_front/image", info="/camera_front/camera_info", static="/tf_static",
        links=lambda x: [(FRAME, "lidar", (x, 0.0, 0.0), IDENTITY)], more=(), name="bag", edit=lambda info: None,
    ):  # fmt: skip
        messages, place = [*more], {0: 1.0} if place is None else place
        for index in range(sweeps):
            stamp = START + index * 100 * MS
            if index in place:
                messages.append((static, TF, make.transforms(*links(place[index])), stamp - MS))
            said = make.info(stamp, focal=focal(index), frame_id=frame(index))
            edit(said)
            picture = make.image(stamp, np.full((6, 8, 3), index, np.uint8))
            picture.header.frame_id = frame(index)
            pair = [(info, INFO, said, stamp - MS if before else stamp + MS), (image, IMAGE, picture, stamp)]
            messages += pair if before else pair[::-1]
            messages.append(("/lidar/points", CLOUD, make.cloud(stamp, POINTS, lidar(index)), stamp))
        return write_messages(sorted(messages, key=lambda message: message[3]), name)

    return bag


def focals(path, **options):
    return [[view.camera.fx for view in frame.views] for frame in BagReader(path, **options).frames()]


def places(path, **options):
    """x of the LiDAR in the camera."""
    frames = BagReader(path, **options).frames()
    return [[round(float(view.camera_from_lidar[0, 3]), 6) for view in frame.views] for frame in frames]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("change", [1, 3, 5])
def test_a_model_that_changes_holds_from_its_image_on(drive, before, change):
    path = drive(focal=lambda index: 5.0 if index < change else 7.0, before=before)
    assert focals(path) == [[5.0]] * change + [[7.0]] * (6 - change)


@pytest.mark.parametrize("bad", [{0}, {0, 1, 2}, {3}, {0, 5}])
def test_a_camera_uncalibrated_for_a_while_uses_the_nearest_good_info(drive, bad, caplog):
    path = drive(focal=lambda index: 0.0 if index in bad else 5.0)
    with caplog.at_level(logging.WARNING):
        assert focals(path) == [[5.0]] * 6
    assert caplog.text.count("not calibrated") == 1


def test_a_camera_info_that_is_published_once_holds_for_all(make, drive, write_messages):
    path = drive(more=[("/rear/camera_info", INFO, make.info(START), START + 30 * MS)] + [
        ("/rear/image", IMAGE, make.image(START + index * 100 * MS, np.zeros((6, 8, 3), np.uint8)),
         START + index * 100 * MS) for index in range(6)
    ])  # fmt: skip
    assert focals(path, cameras=["rear"]) == [[5.0]] * 6


@pytest.mark.parametrize("change", [1, 2, 4])
def test_a_static_transform_that_changes_holds_from_its_time_on(drive, change):
    assert places(drive(place={0: 1.0, change: 2.0})) == [[1.0]] * change + [[2.0]] * (6 - change)


def test_a_static_transform_that_comes_late_holds_for_what_was_before_it(drive):
    assert places(drive(place={3: 4.0})) == [[4.0]] * 6


def pair(x):
    return [(FRAME, "lidar", (x, 0.0, 0.0), IDENTITY), (FRAME, "rear_lidar", (x + 10, 0.0, 0.0), IDENTITY),
            (FRAME, "rear_camera", (3.0, 0.0, 0.0), IDENTITY)]  # fmt: skip


@pytest.mark.parametrize("names", [("lidar", "rear_lidar"), ("rear_lidar", "lidar"), ("/lidar", "/rear_lidar")])
def test_two_lidars_on_one_topic_use_their_own_transforms(drive, names):
    expected = {"lidar": [1.0], "rear_lidar": [11.0]}
    path = drive(lidar=lambda index: names[index % 2], links=pair)
    assert places(path) == [expected[names[index % 2].strip("/")] for index in range(6)]
    assert [frame.frame_id for frame in BagReader(path).frames()] == [names[index % 2] for index in range(6)]


def test_a_first_sweep_in_an_unknown_frame_loses_only_its_own_view(drive):
    assert places(drive(lidar=lambda index: "lidar" if index else "nowhere")) == [[]] + [[1.0]] * 5


def test_a_camera_frame_that_changes_is_followed(drive):
    path = drive(frame=lambda index: FRAME if index < 4 else "rear_camera", links=pair)
    assert places(path) == [[1.0]] * 4 + [[-2.0]] * 2


@pytest.mark.parametrize("static", ["/robot1/tf_static", "/fleet/robot1/tf_static", "/lidar/tf_static"])
def test_a_namespaced_static_topic_counts(drive, static):
    assert places(drive(static=static)) == [[1.0]] * 6


def test_of_two_static_topics_the_one_nearer_to_the_sweeps_is_used(make, drive):
    others = [
        (topic, TF, make.transforms((FRAME, "lidar", (x, 0.0, 0.0), IDENTITY)), START - MS)
        for topic, x in (("/robot2/tf_static", 7.0), ("/tf_static", 8.0))
    ]
    assert places(drive(static="/lidar/tf_static", more=others)) == [[1.0]] * 6
    assert places(drive(static="/robot1/tf_static", more=others, name="other")) == [[8.0]] * 6


@pytest.mark.parametrize("lidar, links", [
    ("lidar", lambda x: [(f"robot1/{FRAME}", "robot1/lidar", (x, 0.0, 0.0), IDENTITY)]),
    ("/lidar", lambda x: [(f"/robot1/{FRAME}", "/robot1/lidar", (x, 0.0, 0.0), IDENTITY)]),
    ("robot1/lidar", lambda x: [(FRAME, "lidar", (x, 0.0, 0.0), IDENTITY)]),
])
def test_a_tf_prefix_on_one_side_only_is_resolved(drive, lidar, links):
    assert places(drive(lidar=lambda index: lidar, links=links)) == [[1.0]] * 6


def test_a_frame_that_could_be_two_robots_is_refused_with_both(drive):
    path = drive(links=lambda x: [("map", f"{robot}/{frame}", (x, 0.0, 0.0), IDENTITY)
                                  for robot in ("a", "b") for frame in (FRAME, "lidar")])
    assert "could be any of a/camera_front_optical, b/" in BagReader(path).unusable["camera_front"]


@pytest.mark.parametrize("image, info, name", [
    ("/image_raw", "/camera_info", "image_raw"), ("/rgb", "/camera_info", "rgb"),
    ("/a/b/image_color", "/a/b/camera_info", "a/b"),
])  # fmt: skip
def test_the_camera_info_topic_is_beside_the_images(drive, image, info, name):
    path = drive(image=image, info=info)
    assert BagReader(path).cameras == (name,) and focals(path) == [[5.0]] * 6


@pytest.mark.parametrize("topic, focal, x", [("/front/image_rect", 9.0, 0.9), ("/front/image_rect_raw", 9.0, 0.9),
                                             ("/front/image_raw", 5.0, 0.9)])
def test_rectified_topics_use_p(drive, topic, focal, x):
    def edit(info):
        info.p = np.array([9.0, 0, 4, -0.9, 0, 9, 3, 0, 0, 0, 1, 0])

    path = drive(image=topic, info="/front/camera_info", edit=edit)
    assert focals(path) == [[focal]] * 6 and places(path) == [[x]] * 6


def test_an_image_of_another_resolution_is_dropped_with_the_sizes(drive, caplog):
    def edit(info):
        info.width, info.height = 16, 12

    path = drive(edit=edit)
    with caplog.at_level(logging.WARNING):
        assert focals(path) == [[]] * 6
    assert caplog.text.count("image is 8x6, its CameraInfo allows 16x12") == 1


PLACE = np.array([[1.0, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
INTRINSICS = {"width": 8, "height": 6, "k": [3.0, 0, 4, 0, 3, 3, 0, 0, 1], "d": [], "distortion_model": "plumb_bob"}


@pytest.fixture
def rig_file(tmp_path):
    def write(**entries):
        path = tmp_path / "rig.yaml"
        content = {name: {"camera_from_lidar": {"matrix": PLACE.tolist()}} | more for name, more in entries.items()}
        path.write_text(yaml.safe_dump({"cameras": content}))
        return path

    return write


@pytest.mark.parametrize("name", ["front", "/front", "/front/image_raw", "front/image_raw"])
def test_a_rig_may_name_a_camera_by_name_namespace_or_topic(drive, rig_file, name):
    path = drive(image="/front/image_raw", info="/front/camera_info")
    assert places(path, rig=rig_file(**{name: {}})) == [[5.0]] * 6


@pytest.mark.parametrize("cameras", [None, ["front"], ["mine"], ["/front/image_raw"]])
@pytest.mark.parametrize("topic", ["/front/image_raw", "front/image_raw/compressed"])
def test_a_rig_may_give_the_topic_of_a_camera_with_another_name(drive, rig_file, topic, cameras):
    path = drive(image="/front/image_raw", info="/front/camera_info")
    assert places(path, rig=rig_file(mine={"topic": topic}), cameras=cameras) == [[5.0]] * 6


def test_a_rig_chooses_among_the_image_topics_of_a_camera(make, drive, rig_file):
    rectified = make.image(START, np.full((6, 8, 3), 99, np.uint8))
    path = drive(1, image="/front/image_raw", info="/front/camera_info",
                 more=[("/front/image_rect", IMAGE, rectified, START)])
    (frame,) = BagReader(path, rig=rig_file(front={"topic": "/front/image_rect"})).frames()
    assert frame.views[0].image[0, 0, 0] == 99


@pytest.mark.parametrize(("entry", "name"), [("rear", "rear"), ("camera", "camera"), ("/front/image_raw", "front")])
def test_a_rig_with_a_camera_that_the_bag_lacks_is_refused_with_those_it_has(drive, rig_file, entry, name):
    with pytest.raises(ValueError, match=rf"the rig names camera {name}, .*only camera_front \(/camera_front/image\)"):
        BagReader(drive(1), rig=rig_file(**{"camera_front": {}, entry: {}}))


def test_the_intrinsics_of_a_rig_for_rectified_images_are_not_used_for_raw_ones(drive, rig_file):
    rig = rig_file(camera_front={"camera_info": INTRINSICS, "topic": "/camera_front/image_rect"})
    with pytest.raises(ValueError, match="the rig names camera camera_front"):
        BagReader(drive(1), rig=rig)


def test_named_cameras_must_be_in_the_rig_and_its_other_cameras_are_ignored(drive, rig_file):
    path = drive(2)
    assert places(path, rig=rig_file(camera_front={}, rear={}), cameras=["camera_front"]) == [[5.0]] * 2
    with pytest.raises(ValueError, match="the rig has no camera camera_front of bag .*; it has rear"):
        BagReader(path, rig=rig_file(rear={}), cameras=["camera_front"])


def test_two_entries_for_one_camera_are_refused(drive, rig_file):
    rig = rig_file(mine={"topic": "/camera_front/image"}, camera_front={})
    with pytest.raises(ValueError, match="both camera_front and mine of the rig are camera camera_front"):
        BagReader(drive(1), rig=rig)
