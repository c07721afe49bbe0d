import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import ClassSet


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_frames_read_back_as_written(frame, write_frames, storage):
    written = [frame(index, image_delay=3_000_000) for index in range(5)]
    written[3] = replace(written[3], points=np.full((20, 3), np.nan, np.float32))
    read = list(BagReader(write_frames(written, storage=storage)).frames())
    assert len(read) == 5
    for before, after in zip(written, read, strict=True):
        assert after.stamp == before.stamp
        np.testing.assert_array_equal(after.points, before.points)
        np.testing.assert_array_equal(after.intensity, before.intensity)
        returns = np.isfinite(before.points).all(1)  # the others have no class
        np.testing.assert_array_equal(after.labels, np.where(returns, before.labels, 255))
        (view,), (expected,) = after.views, before.views
        assert (view.name, view.stamp, view.camera) == (expected.name, expected.stamp, expected.camera)
        np.testing.assert_array_equal(view.image, expected.image)
        np.testing.assert_allclose(view.camera_from_lidar, expected.camera_from_lidar, atol=1e-12)


def test_an_empty_sweep_is_written(frame, write_frames):
    (read,) = BagReader(write_frames([frame(0, points=0)])).frames()
    assert read.points.shape == (0, 3) and len(read.labels) == 0 and len(read.views) == 1


def test_a_frame_without_intensity_views_and_truth_is_written(frame, write_frames):
    bare = replace(frame(0, labels=False, views=False), features={})
    (read,) = BagReader(write_frames([bare])).frames()
    assert read.intensity is None and read.labels is None and read.views == ()


def test_the_topics_are_those_of_the_node(frame, write_frames):
    with open_bag(write_frames([frame(0), frame(1)])) as bag:
        assert dict(bag.counts) == {
            "/tf_static": 1, "/lidar/points": 2, "/camera_front/image": 2, "/camera_front/camera_info": 2,
            "/truth/points_labeled": 2, "/truth/label_info": 1,
        }  # fmt: skip


def test_the_class_set_of_the_truth_is_latched_beside_it(frame, tmp_path):
    own = ClassSet("own2", ("thing", "ground"), ((1, 2, 3), (4, 5, 6)))
    with BagWriter(tmp_path / "bag", class_set=own) as bag:
        bag.write_frame(frame(0))
    assert BagReader(tmp_path / "bag").class_set == own
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    entries = [entry["topic_metadata"] for entry in metadata["topics_with_message_count"]]
    (qos,) = (entry["offered_qos_profiles"] for entry in entries if entry["name"] == "/truth/label_info")
    assert yaml.safe_load(qos)[0]["durability"] == 1  # transient local


def test_static_transforms_come_first_and_are_latched(frame, write_frames):
    path = write_frames([frame(0, image_delay=-5_000_000)])
    with open_bag(path) as bag:
        first = next(bag.messages(bag.types))
    assert first.topic == "/tf_static"
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    entries = [entry["topic_metadata"] for entry in metadata["topics_with_message_count"]]
    (qos,) = (entry["offered_qos_profiles"] for entry in entries if entry["name"] == "/tf_static")
    assert yaml.safe_load(qos)[0]["durability"] == 1  # transient local


def test_a_camera_that_appears_later_gets_its_transform(frame, write_frames):
    path = write_frames([frame(0, views=False), frame(1)])
    assert [len(each.views) for each in BagReader(path).frames()] == [0, 1]


def test_nothing_is_at_the_path_before_the_bag_is_whole(frame, tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.write_frame(frame(0))
        assert not (tmp_path / "bag").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_an_exception_leaves_nothing_behind(frame, tmp_path):
    with pytest.raises(KeyError), BagWriter(tmp_path / "bag") as bag:
        bag.write_frame(frame(0))
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_bag_that_exists_is_not_overwritten(frame, write_frames):
    path = write_frames([frame(0)])
    with pytest.raises(ValueError, match="exists: choose another name"):
        BagWriter(path)


@pytest.mark.parametrize("stamp", [-1, 2**31 * 10**9])
def test_a_stamp_that_ros_cannot_hold_is_refused(frame, write_frames, stamp):
    with pytest.raises(ValueError, match="expected 0 to 2"):
        write_frames([replace(frame(0, views=False), stamp=stamp)])


def test_a_camera_that_moves_on_its_rig_is_refused(frame, write_frames):
    first, second = frame(0), frame(1)
    moved = second.views[0].camera_from_lidar + np.array([[0, 0, 0, 0.1]] + [[0, 0, 0, 0]] * 3)
    second = replace(second, views=(replace(second.views[0], camera_from_lidar=moved),))
    with pytest.raises(ValueError, match="'camera_front' has moved"):
        write_frames([first, second])


def test_an_image_of_another_size_than_its_camera_model_is_refused(frame, write_frames):
    only = frame(0)
    small = replace(only, views=(replace(only.views[0], image=only.views[0].image[:-1]),))
    with pytest.raises(ValueError, match=r"\(5, 8, 3\), expected uint8 \(6, 8, 3\)"):
        write_frames([small])


def test_a_topic_holds_one_type(make, write_messages):
    header = make.header(0, "")
    with pytest.raises(ValueError, match="/a holds std_msgs/msg/Header"):
        write_messages([("/a", "std_msgs/msg/Header", header, 0), ("/a", "sensor_msgs/msg/Image", header, 0)])


def test_serialised_messages_are_written_as_they_are(frame, write_frames, tmp_path):
    with open_bag(write_frames([frame(0)])) as source, BagWriter(tmp_path / "copy") as copy:
        records = list(source.messages(source.types))
        for record in records:
            copy.write(record.topic, record.type, record.data, record.time)
    with open_bag(tmp_path / "copy") as bag:
        assert list(bag.messages(bag.types)) == records


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "png"), (".jpg", "jpeg")])
def test_an_image_file_is_written_as_it_is(frame, tmp_path, suffix, kind):
    only = frame(0)
    file = cv2.imencode(suffix, only.views[0].image)[1].tobytes()
    with BagWriter(tmp_path / "bag") as bag:
        bag.write_frame(only, encoded={"camera_front": file})
    with open_bag(tmp_path / "bag") as bag:
        (record,) = bag.messages(["/camera_front/image/compressed"])
        message = bag.decode(record)
        assert message.format == kind and message.data.tobytes() == file and "/camera_front/image" not in bag.types
    (read,) = BagReader(tmp_path / "bag").frames()
    assert read.views[0].image.shape == only.views[0].image.shape


LIMITED = """
import resource, sys
import numpy as np
from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import ClassSet
from tttkd_ros.frame import Frame
points = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
for limit in (10_000, 1_000_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        with BagWriter(sys.argv[1]) as bag:
            for stamp in range(20):
                bag.write_frame(Frame(stamp, points))
    except OSError as error:
        print(error)
"""


def test_a_full_disk_is_reported_with_the_path_and_nothing_is_left(tmp_path):
    command = [sys.executable, "-c", LIMITED, tmp_path / "bag"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = child.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith(f"{tmp_path / 'bag'} cannot be written (") for line in lines)
    assert child.stderr == ""
    assert list(tmp_path.iterdir()) == []
