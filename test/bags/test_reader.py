import logging
import sqlite3
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from tttkd_ros.bags import reader as reader_module
from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import Bag, open_bag
from tttkd_ros.geometry.camera import CameraModel
from tttkd_ros.geometry.rig import RigCamera, save_rig
from tttkd_ros.messages.definitions import standard_types
from tttkd_ros.messages.point_cloud import DATATYPES

CLOUD, IMAGE, INFO = "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
COMPRESSED, TF = "sensor_msgs/msg/CompressedImage", "tf2_msgs/msg/TFMessage"
START = 1_700_000_000 * 10**9
MS, SECOND = 10**6, 10**9
POINTS = np.arange(12, dtype=np.float32).reshape(4, 3)
PIXELS = np.zeros((6, 8, 3), np.uint8)
IDENTITY = (0.0, 0.0, 0.0, 1.0)


def pixels(value):
    return np.full((6, 8, 3), value, np.uint8)


@pytest.fixture
def rigged(make):
    """Messages that make camera_front usable."""
    place = make.transforms(("lidar", "camera_front_optical", (0.0, 0.0, 0.0), IDENTITY))
    return [("/tf_static", TF, place, START), ("/camera_front/camera_info", INFO, make.info(START), START)]


@pytest.fixture
def sweep(make):
    def message(stamp, recorded=None, topic="/lidar/points", **changes):
        return topic, CLOUD, make.cloud(stamp, POINTS, **changes), stamp if recorded is None else recorded

    return message


@pytest.fixture
def image(make):
    def message(stamp, value, recorded=None, topic="/camera_front/image"):
        return topic, IMAGE, make.image(stamp, pixels(value)), stamp if recorded is None else recorded

    return message


def seen(path, **options):
    """Per frame: stamp in ms after START, and its image's value."""
    frames = BagReader(path, **options).frames()
    return [((f.stamp - START) // MS, [int(v.image[0, 0, 0]) for v in f.views]) for f in frames]


@pytest.mark.parametrize("delay", [-30, -1, 0, 1, 30])
def test_an_image_slightly_before_or_after_its_sweep_belongs_to_it(rigged, sweep, image, write_messages, delay):
    messages = [*rigged]
    for index in range(4):
        stamp = START + (100 + index * 100) * MS
        messages += sorted([sweep(stamp), image(stamp + delay * MS, index)], key=lambda message: message[3])
    assert seen(write_messages(messages)) == [(100, [0]), (200, [1]), (300, [2]), (400, [3])]


def test_the_nearest_of_many_images_is_taken(rigged, sweep, image, write_messages):
    stamps = range(0, 300, 33)
    messages = [*rigged, sweep(START + 100 * MS), sweep(START + 200 * MS)]
    messages += [image(START + stamp * MS, index) for index, stamp in enumerate(stamps)]
    path = write_messages(sorted(messages, key=lambda message: message[3]))
    assert seen(path) == [(100, [3]), (200, [6])]  # images at 99 and 198 ms


def test_an_image_that_was_recorded_much_later_than_its_stamp_is_found(rigged, sweep, image, write_messages):
    sweeps = [sweep(START + index * 100 * MS) for index in range(12)]
    images = [image(START + index * 100 * MS, index, recorded=START + (index * 100 + 450) * MS) for index in range(12)]
    path = write_messages(sorted([*rigged, *sweeps, *images], key=lambda message: message[3]))
    assert seen(path) == [(index * 100, [index]) for index in range(12)]


def test_an_image_beyond_the_tolerance_is_not_taken(rigged, sweep, image, write_messages):
    path = write_messages([*rigged, sweep(START), image(START + 60 * MS, 1)])
    assert seen(path) == [(0, [])]
    assert seen(path, tolerance_ns=60 * MS) == [(0, [1])]


def test_a_camera_that_dies_loses_views_but_no_sweep(rigged, sweep, image, write_messages):
    sweeps = [sweep(START + index * 100 * MS) for index in range(60)]
    path = write_messages([*rigged, image(START, 7), *sweeps])
    assert seen(path) == [(index * 100, [7] if index == 0 else []) for index in range(60)]


def test_nothing_is_paired_across_a_jump_back_in_time(rigged, sweep, image, write_messages):
    messages = [*rigged]
    for lap in range(2):  # the same drive recorded twice, as a looping player sends it
        for index in range(5):
            recorded = START + (lap * 1000 + index * 100) * MS
            stamp = START + index * 100 * MS
            messages += [sweep(stamp, recorded), image(stamp + MS, 10 * lap + index, recorded + MS)]
    expected = [(index * 100, [10 * lap + index]) for lap in range(2) for index in range(5)]
    assert seen(write_messages(messages)) == expected


def test_reading_twice_gives_the_same(frame, write_frames):
    reader = BagReader(write_frames([frame(index, image_delay=-5 * MS) for index in range(6)]))
    for first, second in zip(reader.frames(), reader.frames(), strict=True):
        assert first.stamp == second.stamp and np.array_equal(first.points, second.points)
        assert np.array_equal(first.views[0].image, second.views[0].image)


def test_the_length_is_the_number_of_sweeps(frame, write_frames):
    reader = BagReader(write_frames([frame(index) for index in range(7)]))
    assert len(reader) == len(list(reader.frames())) == 7


def test_frames_are_read_as_they_are_asked_for(frame, write_frames, monkeypatch):
    reader = BagReader(write_frames([frame(index) for index in range(50)]))
    taken = []
    read = Bag.messages

    def counted(bag, topics):
        for record in read(bag, topics):
            taken.append(record)
            yield record

    monkeypatch.setattr(Bag, "messages", counted)
    frames = reader.frames()
    next(frames)
    assert len(taken) <= 6


def test_waiting_for_a_lost_camera_holds_a_bounded_number_of_sweeps(rigged, sweep, image, write_messages, monkeypatch):
    sweeps = [sweep(START + index * 100 * MS) for index in range(40)]
    reader = BagReader(write_messages([*rigged, image(START - 200 * MS, 0), *sweeps]))
    read, taken = Bag.messages, []

    def counted(bag, topics):
        for record in read(bag, topics):
            taken.append(record)
            yield record

    monkeypatch.setattr(Bag, "messages", counted)
    next(reader.frames())
    assert len(taken) <= reader_module.MAX_WAITING_SWEEPS + 3  # an image and its CameraInfo, and the sweep after


def test_truth_is_matched_by_exact_stamp(frame, write_frames):
    frames = [frame(0), frame(1, labels=False), frame(2)]
    read = list(BagReader(write_frames(frames)).frames())
    assert [each.labels is None for each in read] == [False, True, False]
    np.testing.assert_array_equal(read[2].labels, frames[2].labels)


def test_a_bag_without_truth_has_no_labels(frame, write_frames):
    (read,) = BagReader(write_frames([frame(0, labels=False)])).frames()
    assert read.labels is None


def test_a_label_field_of_the_sweeps_is_the_truth_if_there_is_no_truth_topic(make, write_messages):
    labels = np.array([1, 2, 255], np.uint8)
    path = write_messages([("/lidar/points", CLOUD, make.labelled(START, labels), START)])
    (read,) = BagReader(path).frames()
    np.testing.assert_array_equal(read.labels, labels)


def test_an_odd_colour_is_left_out_and_the_points_are_read(make, write_messages):
    field = make("sensor_msgs/msg/PointField", name="rgb", offset=12, datatype=2, count=3)
    data = np.zeros((2, 15), np.uint8)
    data[:, :12] = np.ones((2, 3), "<f4").view(np.uint8)
    message = make.cloud(
        START, np.ones((2, 3), np.float32), fields=[*make.cloud(START, POINTS).fields, field], point_step=15,
        row_step=30, data=data.reshape(-1),
    )  # fmt: skip
    (read,) = BagReader(write_messages([("/lidar/points", CLOUD, message, START)])).frames()
    assert read.points.tolist() == [[1, 1, 1]] * 2 and "rgb" not in read.features


@pytest.fixture
def with_label_field(make, write_messages):
    """`with_label_field(labels)`: a bag of one sweep whose points are x, y, z and a label of that array's type."""

    def write(labels):
        point = np.dtype([("xyz", "<f4", 3), ("label", labels.dtype)])
        cloud = np.ones(len(labels), point)
        cloud["label"] = labels
        datatype = next(key for key, code in DATATYPES.items() if code == labels.dtype.str[1:])
        field = make("sensor_msgs/msg/PointField", name="label", offset=12, datatype=datatype, count=1)
        message = make.cloud(
            START, cloud["xyz"], fields=[*make.cloud(START, POINTS).fields, field], point_step=point.itemsize,
            row_step=cloud.nbytes, data=cloud.view(np.uint8),
        )  # fmt: skip
        return write_messages([("/lidar/points", CLOUD, message, START)])

    return write


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", "<i2", "<i4", "<u4"])
def test_a_label_field_of_any_integer_type_is_the_truth_if_its_topic_is_named(with_label_field, kind):
    reader = BagReader(with_label_field(np.array([1, 2, 9], kind)), truth_topic="/lidar/points")
    (read,) = reader.frames()
    assert reader.truth == "label of /lidar/points"
    assert read.labels.dtype == np.uint8 and read.labels.tolist() == [1, 2, 9]


@pytest.mark.parametrize("kind", ["u1", "i1", "<u2", "<i4", "<u4"])
def test_a_label_field_of_unknown_ids_is_not_used_as_truth_and_is_logged(with_label_field, caplog, kind):
    reader = BagReader(with_label_field(np.array([0, 1, 7], kind)))
    (read,) = reader.frames()
    assert reader.truth is None and read.labels is None
    assert "'label' of /lidar/points is not used as truth" in caplog.text
    assert "give --truth-topic /lidar/points" in caplog.text


@pytest.mark.parametrize("missing", [(0, 0, 0), (np.nan, 1, 1), (np.inf, 1, 1)])
def test_labels_of_points_that_are_no_return_are_no_truth(frame, write_frames, missing):
    written = frame(0)
    written.points[[0, 7]] = missing
    (read,) = BagReader(write_frames([written])).frames()
    assert np.flatnonzero(read.labels == 255).tolist() == [0, 7]


@pytest.mark.parametrize("truth_topic", [None, "/truth/points_labeled", "/lidar/points"])
def test_without_truth_no_label_is_read(frame, write_frames, truth_topic):
    reader = BagReader(write_frames([frame(0)]), truth=False, truth_topic=truth_topic)
    (read,) = reader.frames()
    assert reader.truth is None and read.labels is None


@pytest.mark.parametrize("seconds", [0.08, -37, 3600])
def test_an_offset_matches_the_images_of_a_camera_with_another_clock(frame, write_frames, seconds):
    path = write_frames([frame(index, image_delay=round(seconds * SECOND)) for index in range(4)])
    assert not any(read.views for read in list(BagReader(path, tolerance_ns=10**7).frames()))
    frames = list(BagReader(path, tolerance_ns=10**7, offsets_ns=[round(seconds * SECOND)]).frames())
    assert [view.stamp - read.stamp for read in frames for view in read.views] == [round(seconds * SECOND)] * 4


def test_offsets_that_do_not_fit_the_cameras_are_refused(frame, write_frames):
    with pytest.raises(ValueError, match="2 offsets are given, expected one for all .* each of the 1: camera_front"):
        BagReader(write_frames([frame(0)]), offsets_ns=[0, 0])


def test_a_frame_records_why_a_camera_has_no_view(frame, write_frames):
    frames = list(BagReader(write_frames([frame(0), frame(1, views=False), frame(2)])).frames())
    assert [list(each.missing) for each in frames] == [[], ["camera_front"], []]
    assert "the nearest image is 0.100 s too old, the tolerance 0.05 s" in frames[1].missing["camera_front"]


@pytest.mark.parametrize("labels", [np.array([0, 256], "<u2"), np.array([-1, 0], "<i4")], ids=["256", "-1"])
def test_a_label_field_with_other_numbers_is_refused(with_label_field, labels):
    path = with_label_field(labels)
    with pytest.raises(ValueError, match=f"sweep stamped {START}: labels are .*, expected whole numbers from 0 to 255"):
        list(BagReader(path, truth_topic="/lidar/points").frames())


def test_a_label_field_without_whole_numbers_is_no_truth_and_naming_its_topic_is_refused(with_label_field):
    path = with_label_field(np.array([0.5, 1.5], "<f4"))
    assert BagReader(path).truth is None
    with pytest.raises(ValueError, match="no truth on /lidar/points: expected a field 'label' of whole numbers"):
        BagReader(path, truth_topic="/lidar/points")


def test_truth_for_another_number_of_points_is_refused(frame, make, write_messages, sweep):
    field = make("sensor_msgs/msg/PointField", name="label", offset=0, datatype=2, count=1)
    truth = make.cloud(START, POINTS, fields=[field], point_step=1, row_step=3, width=3)
    path = write_messages([sweep(START), ("/truth/points_labeled", CLOUD, truth, START)])
    with pytest.raises(ValueError, match="truth for 3 points, but the sweep has 4"):
        list(BagReader(path).frames())


def test_truth_that_is_no_label_is_refused(make, write_messages, sweep):
    field = make("sensor_msgs/msg/PointField", name="label", offset=0, datatype=5, count=1)
    data = np.array([1, 2, 3, 256], "<i4").view(np.uint8)
    truth = make.cloud(START, POINTS, fields=[field], point_step=4, row_step=16, data=data)
    path = write_messages([sweep(START), ("/truth/points_labeled", CLOUD, truth, START)])
    with pytest.raises(ValueError, match="labels are int32, expected whole numbers from 0 to 255"):
        list(BagReader(path).frames())


def test_a_bag_without_a_cloud_is_refused(rigged, image, write_messages):
    with pytest.raises(ValueError, match="no topic could be the sweeps.*/camera_front/image"):
        BagReader(write_messages([*rigged, image(START, 0)]))


def test_a_bag_with_two_clouds_is_refused_without_a_topic(sweep, write_messages):
    path = write_messages([sweep(START, topic="/left"), sweep(START, topic="/right")])
    with pytest.raises(ValueError, match="/left, /right could be the sweeps: name the topic"):
        BagReader(path)
    assert len(list(BagReader(path, points_topic="/right").frames())) == 1


def test_a_topic_that_is_not_there_is_refused_with_those_that_are(frame, write_frames):
    path = write_frames([frame(0)])
    with pytest.raises(ValueError, match="no sensor_msgs/msg/PointCloud2 topic '/velodyne'; it has /camera_front"):
        BagReader(path, points_topic="/velodyne")
    with pytest.raises(ValueError, match="'/labels'"):
        BagReader(path, truth_topic="/labels")


def test_a_bag_without_any_camera_gives_sweeps_without_views(frame, write_frames):
    reader = BagReader(write_frames([frame(0, views=False)]))
    assert reader.cameras == () and [each.views for each in reader.frames()] == [()]


def test_a_bag_without_messages_is_refused(write_messages):
    with pytest.raises(ValueError, match="the bag has no topics"):
        BagReader(write_messages([]))


def test_a_sweep_topic_without_messages_is_refused(tmp_path):
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/lidar/points", CLOUD, typestore=standard_types())
    with pytest.raises(ValueError, match="holds no message on /lidar/points"):
        BagReader(tmp_path / "bag")


@pytest.fixture
def with_empty(tmp_path):
    """`with_empty(path, {topic: type})`: the bag's messages in another one, which lists these topics before its own."""

    def copy(path, empty):
        with open_bag(path) as source, Writer(
            tmp_path / "more", version=8, storage_plugin=StoragePlugin.MCAP
        ) as writer:
            connections = {topic: writer.add_connection(topic, kind, typestore=standard_types())
                           for topic, kind in (empty | source.types).items()}
            for record in source.messages(source.types):
                writer.write(connections[record.topic], record.time, record.data)
        return tmp_path / "more"

    return copy


def test_empty_topics_do_not_hide_those_with_messages(make, rigged, sweep, write_messages, with_empty):
    data = cv2.imencode(".png", pixels(9))[1].reshape(-1)
    message = make(COMPRESSED, header=make.header(START, "camera_front_optical"), format="png", data=data)
    path = write_messages([*rigged, sweep(START), ("/camera_front/image/compressed", COMPRESSED, message, START)])
    assert seen(with_empty(path, {"/rear/points": CLOUD, "/camera_front/image": IMAGE})) == [(0, [9])]


def test_a_camera_whose_image_topics_are_empty_is_left_out_and_named(rigged, sweep, write_messages, with_empty):
    path = write_messages([*rigged, sweep(START)])
    path = with_empty(path, {"/camera_front/image": IMAGE, "/camera_front/image/compressed": COMPRESSED})
    reader = BagReader(path)
    assert reader.cameras == () and "no message on /camera_front/image" in reader.unusable["camera_front"]
    with pytest.raises(ValueError, match="camera 'camera_front': no message on /camera_front/image"):
        BagReader(path, cameras=["camera_front"])


def test_a_truth_topic_without_messages_does_not_hide_the_field_of_the_sweeps(make, write_messages, with_empty):
    labelled = [("/lidar/points", CLOUD, make.labelled(START, np.array([1, 2], np.uint8)), START)]
    path = with_empty(write_messages(labelled), {"/truth/points_labeled": CLOUD})
    reader = BagReader(path)
    (read,) = reader.frames()
    assert reader.truth == "label of /lidar/points" and read.labels.tolist() == [1, 2]
    with pytest.raises(ValueError, match="holds no message on /truth/points_labeled"):
        BagReader(path, truth_topic="/truth/points_labeled")


def test_a_bag_that_lacks_sweeps_which_it_counts_is_refused(frame, write_frames):
    path = write_frames([frame(index) for index in range(4)], storage="sqlite3")
    reader = BagReader(path)
    with closing(sqlite3.connect(path / "bag.db3")) as database, database:
        database.execute("DELETE FROM messages WHERE timestamp > ?", (frame(0).stamp,))
    with pytest.raises(ValueError, match="counts 4 sweeps, but has 1"):
        list(reader.frames())
    with closing(sqlite3.connect(path / "bag.db3")) as database, database:
        database.execute("DELETE FROM messages")
    with pytest.raises(ValueError, match="holds no message on /lidar/points"):
        BagReader(path)


def test_a_malformed_sweep_is_named(sweep, write_messages):
    reader = BagReader(write_messages([sweep(START), sweep(START + 1, width=5)]))
    frames = reader.frames()
    next(frames)
    with pytest.raises(ValueError, match=f"sweep stamped {START + 1}: cloud data hold 48 bytes, expected 60"):
        next(frames)


def test_a_camera_that_is_not_calibrated_is_left_out_and_named(make, sweep, image, rigged, write_messages):
    rigged[1] = ("/camera_front/camera_info", INFO, make.info(START, focal=0.0), START)
    path = write_messages([*rigged, sweep(START), image(START, 1)])
    reader = BagReader(path)
    assert reader.cameras == () and "focal" in reader.unusable["camera_front"]
    assert [each.views for each in reader.frames()] == [()]
    with pytest.raises(ValueError, match="'camera_front': focal"):
        BagReader(path, cameras=["camera_front"])


@pytest.mark.parametrize("missing", ["camera_info", "tf_static"])
def test_a_camera_without_its_calibration_is_left_out_with_the_remedy(rigged, sweep, image, write_messages, missing):
    messages = [message for message in rigged if missing not in message[0]]
    reader = BagReader(write_messages([*messages, sweep(START), image(START, 1)]))
    assert "give a rig file" in reader.unusable["camera_front"]


def test_static_transforms_of_another_type_are_none(make, sweep, image, rigged, write_messages):
    path = write_messages([("/tf_static", INFO, make.info(START), START), rigged[1], sweep(START), image(START, 1)])
    assert "no transform connects" in BagReader(path).unusable["camera_front"]


def test_a_camera_that_is_not_in_the_bag_is_refused(frame, write_frames):
    with pytest.raises(ValueError, match="no images of camera rear; it has those of camera_front"):
        BagReader(write_frames([frame(0)]), cameras=["rear"])


def test_a_rig_overrides_the_bag(frame, write_frames, tmp_path):
    place = np.array([[1.0, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]])
    rig = tmp_path / "rig.yaml"
    save_rig(rig, {"camera_front": RigCamera(place, CameraModel(8, 6, 9.0, 9.0, 4.0, 3.0))})
    (read,) = BagReader(write_frames([frame(0)]), rig=rig).frames()
    np.testing.assert_array_equal(read.views[0].camera_from_lidar, place)
    assert read.views[0].camera.fx == 9.0


def test_a_rig_stands_in_for_calibration_that_the_bag_lacks(sweep, image, write_messages, tmp_path):
    rig = tmp_path / "rig.yaml"
    save_rig(rig, {"camera_front": RigCamera(np.eye(4), CameraModel(8, 6, 9.0, 9.0, 4.0, 3.0))})
    assert seen(write_messages([sweep(START), image(START, 3)]), rig=rig) == [(0, [3])]


def test_a_missing_rig_is_refused(frame, write_frames, tmp_path):
    with pytest.raises(ValueError, match="no rig file"):
        BagReader(write_frames([frame(0)]), rig=tmp_path / "none.yaml")


def test_an_unusable_image_is_dropped_and_reported(
    make, rigged, sweep, image, write_messages, caplog
):
    small = ("/camera_front/image", IMAGE, make.image(START + 100 * MS, PIXELS[:3]), START + 100 * MS)
    strange = ("/camera_front/image", IMAGE, make.image(START + 200 * MS, PIXELS, "tactile"), START + 200 * MS)
    sweeps = [sweep(START + index * 100 * MS) for index in range(4)]
    images = [image(START, 1), small, strange, image(START + 300 * MS, 4)]
    path = write_messages(sorted([*rigged, *sweeps, *images], key=lambda message: message[3]))
    with caplog.at_level(logging.WARNING):
        assert seen(path) == [(0, [1]), (100, []), (200, []), (300, [4])]
    assert "camera camera_front" in caplog.text and "8x3" in caplog.text


def test_compressed_images_are_read(make, rigged, sweep, write_messages):
    data = cv2.imencode(".png", pixels(9))[1].reshape(-1)
    message = make(COMPRESSED, header=make.header(START, "camera_front_optical"), format="png", data=data)
    path = write_messages([*rigged, sweep(START), ("/camera_front/image/compressed", COMPRESSED, message, START)])
    assert seen(path) == [(0, [9])]


def test_extrinsics_go_through_the_vehicle_frame(make, sweep, image, write_messages):
    half = np.sqrt(0.5)
    place = make.transforms(
        ("base_link", "lidar", (0.0, 0.0, 2.0), (0.0, 0.0, half, half)),
        ("base_link", "mast", (1.0, 0.0, 0.0), IDENTITY),
        ("mast", "camera_front_optical", (0.0, 0.0, 1.5), IDENTITY),
    )
    info = ("/camera_front/camera_info", INFO, make.info(START), START)
    path = write_messages([("/tf_static", TF, place, START), info, sweep(START), image(START, 1)])
    (read,) = BagReader(path).frames()
    # The LiDAR's x axis is the vehicle's y axis; one metre along it from (0, 0, 2) is (0, 1, 2) in the vehicle.
    np.testing.assert_allclose(read.views[0].camera_from_lidar @ [1, 0, 0, 1], [-1, 1, 0.5, 1], atol=1e-12)


def turning(make, child, quarters):
    """/tf: one frame on base_link that has turned to the left by so many quarters at 0, 100 ... ms."""
    for index, turned in enumerate(quarters):
        stamp, angle = START + index * 100 * MS, turned * np.pi / 4
        message = make.transforms(("base_link", child, (0.0, 0.0, 0.0), (0.0, 0.0, np.sin(angle), np.cos(angle))))
        message.transforms[0].header.stamp = make.header(stamp, "").stamp
        yield "/tf", TF, message, stamp


def test_a_camera_that_pans_is_where_tf_has_it_at_its_images_time(make, sweep, image, write_messages):
    place = make.transforms(
        ("base_link", "lidar", (0.0, 0.0, 0.0), IDENTITY), ("pan", "camera_front_optical", (0.0, 0.0, 0.0), IDENTITY)
    )
    messages = [
        ("/tf_static", TF, place, START), ("/camera_front/camera_info", INFO, make.info(START), START),
        *turning(make, "pan", [0, 1, 2]), sweep(START + 40 * MS), image(START + 50 * MS, 1),
        sweep(START + 300 * MS), image(START + 300 * MS, 2),
    ]  # fmt: skip
    half = np.sqrt(0.5)
    first, last = BagReader(write_messages(sorted(messages, key=lambda each: each[3]))).frames()
    np.testing.assert_allclose(first.views[0].camera_from_lidar @ [1, 0, 0, 1], [half, -half, 0, 1], atol=1e-9)
    np.testing.assert_allclose(last.views[0].camera_from_lidar @ [1, 0, 0, 1], [-1, 0, 0, 1], atol=1e-9)  # newest


def test_a_camera_that_tf_does_not_connect_to_the_lidar_is_left_out_with_the_remedy(
    make, sweep, image, write_messages
):
    info = ("/camera_front/camera_info", INFO, make.info(START), START)
    messages = [info, *turning(make, "pan", [0, 1]), sweep(START), image(START, 1)]
    reason = BagReader(write_messages(messages)).unusable["camera_front"]
    assert "'lidar' to 'camera_front_optical'" in reason and "give a rig file" in reason


def test_a_path_without_a_bag_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no bag at .*none"):
        BagReader(tmp_path / "none")


def test_a_view_has_its_own_stamp(frame, write_frames):
    only = frame(0, image_delay=7 * MS)
    (read,) = BagReader(write_frames([replace(only, labels=None)])).frames()
    assert read.views[0].stamp == only.stamp + 7 * MS


def test_the_source_of_the_truth_is_named(frame, make, write_frames, write_messages):
    assert BagReader(write_frames([frame(0)], "truth")).truth == "/truth/points_labeled"
    assert BagReader(write_frames([frame(0, labels=False)], "none")).truth is None
    labelled = [("/lidar/points", CLOUD, make.labelled(START, np.zeros(3, np.uint8)), START)]
    assert BagReader(write_messages(labelled, "field")).truth == "label of /lidar/points"


def test_topics_of_unknown_types_do_no_harm(tmp_path, frame, write_frames):
    with open_bag(write_frames([frame(0)])) as source, Writer(
        tmp_path / "more", version=8, storage_plugin=StoragePlugin.MCAP
    ) as writer:
        strange = writer.add_connection("/radar", "acme_msgs/msg/Radar", msgdef="uint8 a\n", rihs01="RIHS01_0")
        writer.write(strange, START, b"\0\1\0\0\1")
        connections = {topic: writer.add_connection(topic, kind, typestore=standard_types())
                       for topic, kind in source.types.items()}
        for record in source.messages(source.types):
            writer.write(connections[record.topic], record.time, record.data)
    (read,) = BagReader(tmp_path / "more").frames()
    assert len(read.views) == 1 and read.labels is not None


def test_a_bag_of_unknown_types_only_is_refused_with_what_it_holds(tmp_path):
    with Writer(tmp_path / "bag", version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        strange = writer.add_connection("/radar", "acme_msgs/msg/Radar", msgdef="uint8 a\n", rihs01="RIHS01_0")
        writer.write(strange, START, b"\0\1\0\0\1")
    with pytest.raises(ValueError, match=r"no topic could be the sweeps.*/radar \(acme_msgs/msg/Radar\)"):
        BagReader(tmp_path / "bag")


def test_the_channel_order_of_raw_encodings_is_an_option(write_messages, make, rigged, sweep):
    message = make.image(START, np.tile(np.uint8([10, 20, 30]), (6, 8, 1)), "8UC3")
    path = write_messages([*rigged, ("/camera_front/image", IMAGE, message, START), sweep(START)])
    for order, expected in (("refuse", []), ("rgb", [10]), ("bgr", [30])):
        assert seen(path, channel_order=order) == [(0, expected)]


def test_a_camera_with_only_video_is_reported(tmp_path, make, sweep):
    kind = "foxglove_msgs/msg/CompressedVideo"
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg("uint8[] data\nstring format\n", kind))
    packet = store.types[kind](data=np.zeros(3, np.uint8), format="h264")
    with Writer(tmp_path / "bag", version=8) as writer:
        for topic, name, message, time in (sweep(START), ("/rear/video", kind, packet, START)):
            connection = writer.add_connection(topic, name, typestore=store)
            writer.write(connection, time, store.serialize_cdr(message, name))
    assert "foxglove_compressed_video_transport" in BagReader(tmp_path / "bag").unusable["rear"]
    with pytest.raises(ValueError, match="camera rear; it has those of none; its images are on /rear/video"):
        BagReader(tmp_path / "bag", cameras=["rear"])
