"""Which files a bag is, whatever its metadata.yaml says, and the errors for files that are no bag."""

import gzip
import io
import logging
import shutil
import sys
import tarfile
import zipfile
from subprocess import run

import numpy as np
import pytest
import yaml
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from tttkd_ros.bags.reader import BagReader
from tttkd_ros.bags.storage import open_bag

SWEEPS = 4
INFORMATION = "rosbag2_bagfile_information"


@pytest.fixture(params=["mcap", "sqlite3"])
def source(frame, write_frames, request):
    return write_frames([frame(index) for index in range(SWEEPS)], storage=request.param)


@pytest.fixture
def split(frame, write_frames, tmp_path):
    """Three files of two sweeps each, with the metadata that rosbag2 would write."""
    folder, names = tmp_path / "split", [f"split_{number}.mcap" for number in range(3)]
    folder.mkdir()
    for number, name in enumerate(names):
        part = write_frames([frame(2 * number), frame(2 * number + 1)], name=f"part{number}")
        shutil.copy(part / f"part{number}.mcap", folder / name)
    metadata = yaml.safe_load((part / "metadata.yaml").read_text())
    metadata[INFORMATION] |= {"relative_file_paths": names, "message_count": 27}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    return folder


def messages(path):
    with open_bag(path) as bag:
        return list(bag.messages(bag.types))


def stamps(path, **options):
    return [frame.stamp for frame in BagReader(path, **options).frames()]


def edit(bag, change):
    """`change` is given the metadata, and changes or returns them."""
    file = bag / "metadata.yaml"
    metadata = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({INFORMATION: change(metadata[INFORMATION]) or metadata[INFORMATION]}))


PROFILE = {"history": 1, "depth": 5, "reliability": 1, "durability": 2, "liveliness": 1,
           "avoid_ros_namespace_conventions": False}  # fmt: skip
LIMITS = dict.fromkeys(("deadline", "lifespan", "liveliness_lease_duration"), {"sec": 0, "nsec": 0})
QOS = {
    "empty": "", "empty list": [], "null": None, "text": yaml.safe_dump([PROFILE | LIMITS]),
    "list": [PROFILE | LIMITS], "two": [PROFILE | LIMITS, PROFILE | LIMITS | {"depth": 1}], "incomplete": [PROFILE],
    "names": [PROFILE | LIMITS | {"history": "keep_last", "reliability": "best_effort", "durability": "volatile"}],
    "unknown names": [PROFILE | LIMITS | {"reliability": "best_available", "history": "some"}],
    "unknown numbers": [PROFILE | LIMITS | {"reliability": 77, "durability": -1, "liveliness": 3}],
    "no list": PROFILE, "broken text": "- {history: [", "words": ["reliable"], "number": 5,
}  # fmt: skip


def test_qos_in_the_metadata_does_not_matter(source):
    whole = messages(source)
    for name, qos in QOS.items():

        def change(metadata, qos=qos):
            for topic in metadata["topics_with_message_count"]:
                topic["topic_metadata"]["offered_qos_profiles"] = qos

        edit(source, change)
        assert messages(source) == whole, name
    assert len(stamps(source)) == SWEEPS


def without(*keys):
    return lambda metadata: {key: value for key, value in metadata.items() if key not in keys}


def no_topics(metadata):
    metadata["topics_with_message_count"] = []


def other_types(metadata):
    for topic in metadata["topics_with_message_count"]:
        topic["topic_metadata"] |= {"type": "std_msgs/msg/String", "serialization_format": "x"}


CHANGES = (
    lambda metadata: {}, without("version"), without("duration", "starting_time", "storage_identifier"),
    without("relative_file_paths"), without("topics_with_message_count", "message_count"), no_topics, other_types,
    lambda metadata: metadata | {"version": 9, "custom_data": {"key": "value"}, "ros_distro": "jazzy"},
    lambda metadata: metadata | {"version": 99, "what_is_new": [1]}, lambda metadata: metadata | {"version": "four"},
    lambda metadata: metadata | {"storage_identifier": "other"},
    lambda metadata: metadata | {"compression_mode": "FILE", "compression_format": "lz4"},
    lambda metadata: metadata | {"relative_file_paths": "bag.mcap"},
    lambda metadata: metadata | {"relative_file_paths": ["a.mcap"]},
    lambda metadata: metadata | {"relative_file_paths": [f"bag/{metadata['relative_file_paths'][0]}"]},
    lambda metadata: metadata | {"relative_file_paths": [f"C:\\bags\\{metadata['relative_file_paths'][0]}"]},
    lambda metadata: metadata | {"relative_file_paths": [f"/old/place/{metadata['relative_file_paths'][0]}"]},
    lambda metadata: metadata | {"relative_file_paths": 2 * metadata["relative_file_paths"]},
    lambda metadata: metadata | {"relative_file_paths": [3, None, "", "\0.mcap", "x" * 5000]},
)  # fmt: skip


def test_the_data_decide_whatever_the_metadata_say(source):
    whole, original = messages(source), (source / "metadata.yaml").read_bytes()
    for number, change in enumerate(CHANGES):
        (source / "metadata.yaml").write_bytes(original)
        edit(source, change)
        assert messages(source) == whole, number
    assert len(stamps(source)) == SWEEPS


@pytest.mark.parametrize("content", [None, b"", b"\0: [garbage", b"[1, 2]", b"rosbag2_bagfile_information: 3"])
def test_missing_or_empty_metadata_are_not_needed(source, content):
    whole = messages(source)
    (source / "metadata.yaml").unlink()
    if content is not None:
        (source / "metadata.yaml").write_bytes(content)
    assert messages(source) == whole


@pytest.mark.parametrize("counted", [0, 5, 1000])
def test_a_wrong_count_is_logged_once(source, caplog, counted):
    edit(source, lambda metadata: metadata | {"message_count": counted})
    with caplog.at_level(logging.WARNING):
        assert len(stamps(source)) == SWEEPS
    assert caplog.text.count(f"metadata.yaml counts {counted} messages, but the files hold 18") == 1


@pytest.mark.parametrize("name", ["renamed.{}", "x_0.{}", "2024 01 01.{}"])
def test_a_file_that_was_renamed_is_found(source, name):
    whole = messages(source)
    (file,) = source.glob("bag.*")
    file.rename(source / name.format(file.suffix[1:]))
    assert messages(source) == whole


def test_files_that_the_metadata_do_not_name_are_logged_and_not_read(source, caplog):
    whole = messages(source)
    (file,) = source.glob("bag.*")
    shutil.copy(file, source / f"copy{file.suffix}")
    assert messages(source) == whole
    BagReader(source)
    assert f"metadata.yaml does not name copy{file.suffix}: not read" in caplog.text


def test_files_in_a_folder_below_are_found(source):
    whole = messages(source)
    (file,) = source.glob("bag.*")
    (source / "data").mkdir()
    file.rename(source / "data" / file.name)
    edit(source, lambda metadata: metadata | {"relative_file_paths": [f"data/{file.name}"]})
    assert messages(source) == whole


@pytest.mark.parametrize("outside", ["../other.mcap", "/tmp/../{}/other.mcap", "{}/other.mcap"])
def test_files_outside_of_the_folder_are_not_read(frame, write_frames, tmp_path, outside):
    bag, other = write_frames([frame(0)]), write_frames([frame(1)], name="other")
    shutil.copy(other / "other.mcap", tmp_path / "other.mcap")
    edit(bag, lambda metadata: metadata | {"relative_file_paths": [outside.format(tmp_path)]})
    assert stamps(bag) == [frame(0).stamp]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [2, 1, 0]])
@pytest.mark.parametrize("metadata", [True, False])
def test_files_of_a_bag_come_in_the_order_of_time(frame, split, order, metadata):
    names = [f"split_{number}.mcap" for number in range(3)]
    for name in names:
        (split / name).rename(split / f"{name}.moved")
    for number, name in zip(order, names, strict=True):
        (split / f"{name}.moved").rename(split / names[number])
    if not metadata:
        (split / "metadata.yaml").unlink()
    assert stamps(split) == [frame(index).stamp for index in range(6)]
    times = [record.time for record in messages(split)]
    assert times == sorted(times) and len(times) == 30


def test_files_that_overlap_in_time_are_merged(frame, write_frames, tmp_path):
    for number in range(2):
        write_frames([frame(index) for index in range(number, 6, 2)], name=f"part{number}")
    (tmp_path / "bag").mkdir()
    for number in range(2):
        shutil.move(tmp_path / f"part{number}" / f"part{number}.mcap", tmp_path / "bag")
    assert stamps(tmp_path / "bag") == [frame(index).stamp for index in range(6)]


def test_commands_in_errors_can_be_pasted(tmp_path):
    folder = tmp_path / "my bags"
    folder.mkdir()
    (folder / "a b.bag").write_bytes(b"#ROSBAG V2.0\n")
    (folder / "a b.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(ValueError, match=f"--src '{folder}/a b.bag' --dst '{folder}/a b'`"):
        BagReader(folder / "a b.bag")
    with pytest.raises(ValueError, match=f"`mcap recover '{folder}/a b.mcap' -o recovered.mcap`"):
        BagReader(folder / "a b.mcap")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_file_of_several_is_named_with_the_remedy(split, number):
    (split / f"split_{number}.mcap").unlink()
    message = f"is incomplete: .* names split_{number}.mcap, which is not there: .*`ros2 bag reindex {split}`"
    with pytest.raises(ValueError, match=message):
        BagReader(split)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_one_file_of_several_is_a_bag(frame, split, number):
    assert stamps(split / f"split_{number}.mcap") == [frame(2 * number).stamp, frame(2 * number + 1).stamp]


def test_files_of_two_kinds_are_not_mixed(frame, write_frames, tmp_path):
    """As where a bag was converted into its own folder: each message would come twice."""
    bag, other = write_frames([frame(0)]), write_frames([frame(0)], name="other", storage="sqlite3")
    shutil.copy(other / "other.db3", bag)
    assert stamps(bag) == [frame(0).stamp]
    (bag / "metadata.yaml").unlink()
    with pytest.raises(ValueError, match=r"has .db3 and .mcap files, and no metadata.yaml .*: give one file"):
        BagReader(bag)


def test_a_folder_of_bags_names_them(write_frames, frame, tmp_path):
    for name in ("one", "two"):
        write_frames([frame(0)], name=f"bags/{name}")
    with pytest.raises(ValueError, match=r"no bag: .*give one of the bags in it \(one, two\)"):
        BagReader(tmp_path / "bags")


def archive(kind, content: bytes) -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as file:
            file.writestr("bag.mcap", content)
    else:
        with tarfile.open(fileobj=out, mode={"tar": "w", "tgz": "w:gz", "tbz": "w:bz2", "txz": "w:xz"}[kind]) as file:
            member = tarfile.TarInfo("bag.mcap")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return out.getvalue()


NO_BAGS = [
    *[(archive(kind, bytes(10**4)), f"is an archive: unpack it first, with `{command}")
      for kind, command in (("zip", "unzip"), ("tar", "tar xf"), ("tgz", "tar xzf"), ("tbz", "tar xjf"),
                            ("txz", "tar xJf"))],
    (gzip.compress(b"\x89MCAP0\r\n", mtime=0), "is an archive: .*`gunzip"),
    (b"7z\xbc\xaf\x27\x1c" + bytes(100), "is an archive: .*`7z x"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "Git LFS pointer.*`git lfs pull`"),
    (b"<!DOCTYPE html><html>", "is a web page"), (b"<html>", "is a web page"),
    (b"", "is empty"), (b"hello", "unknown kind .*b'hello'"), (bytes(5000), "unknown kind"),
    (b"#ROSBAG V2.0\n" + bytes(4000), "is a ROS 1 bag: convert it with `rosbags-convert --src "),
]  # fmt: skip


@pytest.mark.parametrize(("content", "message"), NO_BAGS)
@pytest.mark.parametrize("name", ["file.mcap", "file.db3", "file.zip"])
def test_a_file_that_is_no_bag_is_identified(tmp_path, content, message, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        BagReader(tmp_path / name)
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("drive.bag", b"#ROSBAG V2.0\n", "drive.bag is a ROS 1 bag: .*rosbags-convert --src .*drive.bag --dst .*drive`"),
    ("drive.zip", archive("zip", b""), "drive.zip is an archive"), ("drive.tar.gz", archive("tgz", b""), "archive")],
    ids=("bag", "zip", "tar.gz"))  # an archive has the time in it: no name for a test
def test_a_folder_with_such_a_file_names_it(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        BagReader(tmp_path)


def test_a_ros_1_bag_is_read_after_the_command_that_is_named(make, tmp_path):
    types = get_typestore(Stores.ROS1_NOETIC)
    kind, path = "sensor_msgs/msg/PointCloud2", tmp_path / "drive.bag"
    with Ros1Writer(path) as writer:
        connection = writer.add_connection("/points", kind, typestore=types)
        for index in range(3):
            cloud = make.cloud(10**18 + index * 10**8, np.full((5, 3), index, np.float32))
            stamp = types.types["builtin_interfaces/msg/Time"](sec=10**9, nanosec=index * 10**8)
            header = types.types["std_msgs/msg/Header"](seq=index, stamp=stamp, frame_id="lidar")
            fields = [types.types["sensor_msgs/msg/PointField"](f.name, f.offset, f.datatype, f.count)
                      for f in cloud.fields]
            cloud = types.types[kind](header, cloud.height, cloud.width, fields, cloud.is_bigendian, cloud.point_step,
                                      cloud.row_step, cloud.data, cloud.is_dense)
            writer.write(connection, 10**18 + index, types.serialize_ros1(cloud, kind))
    with pytest.raises(ValueError, match="ROS 1 bag") as error:
        BagReader(path)
    command = str(error.value).split("`")[1].split()
    assert command[0] == "rosbags-convert"
    run([sys.executable, "-m", "rosbags.convert", *command[1:]], check=True)
    assert [frame.points[0, 0] for frame in BagReader(command[-1]).frames()] == [0, 1, 2]
