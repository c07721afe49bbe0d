"""Sources of frames by their text, on small folders of every layout."""

import json
import pickle
import shutil
import weakref

import numpy as np
import pytest

from tttkd_ros.bags.writer import BagWriter
from tttkd_ros.classes import OUTDOOR, UNLABELLED, ClassSet, load_class_set
from tttkd_ros.datasets.conversion import write_bag
from tttkd_ros.datasets.parts import PERIOD, BagPart
from tttkd_ros.datasets.source import choose_scenes, open_source
from tttkd_ros.simulation.drive import DriveProfile, frames
from tttkd_ros.simulation.seeds import SEEDS

VEHICLES = ClassSet("vehicles", ("vehicle",), ((0, 0, 0),),
                    {"outdoor10": {"car": "vehicle", "truck": "vehicle"}, "labels": {"car": "vehicle"}},
                    {"outdoor10": OUTDOOR.names[2:], "labels": ("road", "unlabelled")})


def assert_same(left, right):
    assert left.stamp == right.stamp
    np.testing.assert_array_equal(left.points, right.points)
    np.testing.assert_array_equal(left.intensity, right.intensity)
    assert (left.labels is None) == (right.labels is None)
    if left.labels is not None:
        np.testing.assert_array_equal(left.labels, right.labels)
    for ours, theirs in zip(*(sorted(frame.views, key=lambda view: view.name) for frame in (left, right)), strict=True):
        assert (ours.name, ours.stamp, ours.camera) == (theirs.name, theirs.stamp, theirs.camera)
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_allclose(ours.camera_from_lidar, theirs.camera_from_lidar, atol=1e-5)


@pytest.fixture
def folders(request):
    def make(kind):
        if kind == "kitti":
            return request.getfixturevalue("kitti_drive").parent
        found = request.getfixturevalue("labelled_folders" if kind == "labels" else kind)
        return found() if callable(found) else found

    return make


@pytest.mark.parametrize("kind", ["semantickitti", "kitti", "nuscenes", "a2d2", "waymo", "labels"])
def test_a_folders_frames_equal_those_of_the_bag_that_it_converts_to(folders, tmp_path, kind):
    part = open_source(f"{kind}:{folders(kind)}", OUTDOOR)[0]
    write_bag(part.recording, tmp_path / "bag", {})
    (bag,) = open_source(str(tmp_path / "bag"), OUTDOOR)
    assert len(part) == len(bag) >= 2
    for direct, replayed in zip(part, bag, strict=True):
        assert_same(direct, replayed)


@pytest.mark.parametrize("kind", ["semantickitti", "nuscenes", "waymo", "labels", "bag", "sim"])
def test_a_part_that_is_used_can_be_pickled_and_yields_the_same(folders, tmp_path, kind):
    if kind == "bag":
        write_bag(open_source(f"labels:{folders('labels')}", OUTDOOR)[0].recording, tmp_path / "bag", {})
    text = {"bag": str(tmp_path / "bag"), "sim": "sim:kitti:1x1"}.get(kind) or f"{kind}:{folders(kind)}"
    part = open_source(text, OUTDOOR)[0]
    before = next(iter(part))
    copy = pickle.loads(pickle.dumps(part))
    assert (copy.name, copy.inputs, len(copy)) == (part.name, part.inputs, len(part))
    assert_same(next(iter(copy)), before)


@pytest.mark.parametrize("kind", ["semantickitti", "waymo"])
def test_a_part_never_holds_more_than_two_frames(request, kind):
    (part,) = open_source(f"{kind}:{request.getfixturevalue(kind)(12)}", OUTDOOR)
    alive, most = weakref.WeakSet(), 0
    for frame in part:
        alive.add(frame)
        most = max(most, len(alive))
    assert most <= 2


def test_a_folder_of_bags_has_a_part_for_each(labelled_folders, tmp_path):
    parts = open_source(f"labels:{labelled_folders}", OUTDOOR)
    for part in parts:
        write_bag(part.recording, tmp_path / "bags" / part.scene, {})
    (tmp_path / "bags" / "notes").mkdir()
    found = open_source(str(tmp_path / "bags"), OUTDOOR)
    assert [part.name for part in found] == ["00", "01"]
    assert [part.path for part in open_source(str(found[0].path / "00_0.mcap"), OUTDOOR)]


def test_the_inputs_of_a_part_change_with_its_files(labelled_folders):
    def inputs(class_set=OUTDOOR):
        return open_source(f"labels:{labelled_folders}:00", class_set)[0].inputs

    before = inputs()
    assert inputs() == before and json.loads(json.dumps(before)) == before
    assert inputs(VEHICLES) != before
    (labelled_folders / "classes.yaml").write_text("0: unlabelled\n1: truck\n2: road\n")
    assert inputs() != before


def test_simulated_drives_have_the_seeds_of_their_purpose():
    parts = open_source("sim:kitti:2x1", OUTDOOR, seed=3)
    first = SEEDS["student"].start + 3 * 2
    assert [part.name for part in parts] == [f"kitti-{first}", f"kitti-{first + 1}"]
    (frame,) = parts[0]
    (expected,) = frames("kitti", first, 1, DriveProfile(period=PERIOD))
    assert_same(frame, expected)
    assert [len(part) for part in open_source("sim:a2d2", OUTDOOR)] == [10] * 100
    (foggy,) = open_source("sim:fog:1x2", OUTDOOR, purpose="examples")
    stamps = [frame.stamp for frame in foggy]
    assert len(foggy) == 2 and stamps[1] - stamps[0] == 1_500_000_000


def test_labels_of_the_simulator_and_of_bags_follow_the_class_set(tmp_path):
    (part,) = open_source("sim:kitti:1x1", VEHICLES)
    (frame,), (original,) = part, open_source("sim:kitti:1x1", OUTDOOR)[0]
    with BagWriter(tmp_path / "bag") as bag:
        bag.write_frame(original)
    (replayed,) = open_source(str(tmp_path / "bag"), VEHICLES)[0]
    expected = np.where(original.labels < 2, 0, UNLABELLED)
    np.testing.assert_array_equal(frame.labels, expected)
    np.testing.assert_array_equal(replayed.labels, expected)


@pytest.mark.parametrize("kind", ["semantickitti", "nuscenes", "a2d2", "waymo", "labels", "bag", "sim"])
def test_without_a_class_set_no_labels_are_read(folders, tmp_path, kind, caplog):
    if kind == "bag":
        write_bag(open_source(f"labels:{folders('labels')}", OUTDOOR)[0].recording, tmp_path / "bag", {})
    text = {"bag": str(tmp_path / "bag"), "sim": "sim:kitti:1x2"}.get(kind) or f"{kind}:{folders(kind)}"
    labelled = open_source(text, OUTDOOR)[0]
    count, inputs = len(labelled), labelled.inputs
    for damaged in ("*.label", "label/*/*.png", "lidarseg/*", "lidar_segmentation/*"):
        for path in tmp_path.rglob(damaged):
            path.write_bytes(b"damaged")
    caplog.clear()
    part = open_source(text, None)[0]
    frames = list(part)
    assert len(frames) == count >= 2 and all(frame.labels is None for frame in frames)
    assert "truth" not in caplog.text
    assert part.inputs != inputs and pickle.loads(pickle.dumps(part)).inputs == part.inputs


def test_a_bag_without_truth_has_no_labels(labelled_folders, tmp_path):
    shutil.rmtree(labelled_folders / "00" / "labels")
    write_bag(open_source(f"labels:{labelled_folders}:00", OUTDOOR)[0].recording, tmp_path / "bag", {})
    assert all(frame.labels is None for frame in BagPart(tmp_path / "bag", OUTDOOR))


def test_a_path_may_have_colons_if_it_exists(labelled_folders, tmp_path):
    folder = labelled_folders.rename(tmp_path / "labels:of:me")
    assert [part.scene for part in open_source(f"labels:{folder}", OUTDOOR)] == ["00", "01"]
    assert [part.scene for part in open_source(f"labels:{folder}:01", OUTDOOR)] == ["01"]


SCENES = ["00", "01", "02", "05", "scene-0061", "scene-0103", "scene-0553"]


@pytest.mark.parametrize(("chosen", "scenes"), [
    ("00-02,05", ["00", "01", "02", "05"]), ("05, 00", ["05", "00"]), ("scene-0103", ["scene-0103"]),
    ("scene-0061-scene-0553", ["scene-0061", "scene-0103", "scene-0553"]),
])  # fmt: skip
def test_scenes_are_a_list_with_ranges(chosen, scenes):
    assert choose_scenes(chosen, SCENES) == scenes


def test_a_split_is_a_list_in_a_file(tmp_path):
    (tmp_path / "val.txt").write_text("scene-0103\n\n05\n")
    assert choose_scenes(f"@{tmp_path}/val.txt", SCENES) == ["scene-0103", "05"]
    (tmp_path / "val.txt").write_text("\n")
    with pytest.raises(ValueError, match="the split '@.*val.txt' is empty: name at least one scene, such as 00"):
        choose_scenes(f"@{tmp_path}/val.txt", SCENES)
    with pytest.raises(ValueError, match="no file at .*test.txt: expected a text file with one scene a line"):
        choose_scenes(f"@{tmp_path}/test.txt", SCENES)


@pytest.mark.parametrize(("chosen", "message"), [
    ("00-05", "there is no scene '03', only 00, 01, "), ("07", "there is no scene '07'"),
    ("05-00", "the range '05-00' runs backwards: write 00-05"),
    ("scene-0103-scene-0061", "runs backwards: write scene-0061-scene-0103"),
    ("00-01,01", "scene '01' is named twice"), (",", "the split ',' is empty"), ("", "the split '' is empty"),
])  # fmt: skip
def test_scenes_that_are_not_there_are_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        choose_scenes(chosen, SCENES)


@pytest.mark.parametrize(("text", "message"), [
    ("nowhere", "no bag at nowhere: expected the path of a bag .* sim:WORLD, or semantickitti:FOLDER"),
    ("scannet:/data", "no bag at scannet:/data: expected"),
    ("kitti:", "ends behind the colon: expected kitti:FOLDER"),
    ("sim:", "ends behind the colon: expected sim:WORLD"),
    ("kitti:/nowhere", "source 'kitti:/nowhere': no folder at /nowhere: name the one where kitti is unpacked"),
    ("kitti:/nowhere:00", "no folder at /nowhere"),
    ("sim:mars", "no world 'mars', expected one of a2d2, kitti, nuscenes, or a shift: .*fog"),
    ("sim:a2d2:10", "'10' is not the number of drives and of sweeps, expected such as 100x10"),
    ("sim:a2d2:0x5", "'0x5' is not the number"), ("sim:a2d2:", "'' is not the number"),
    ("sim:day-dark-day:1x2", "needs at least 3 sweeps"),
    ("sim:a2d2:2000000x1", "the student has 1000000 drives"),
])  # fmt: skip
def test_a_mistake_in_a_source_is_named_with_its_remedy(text, message):
    with pytest.raises(ValueError, match=message) as error:
        open_source(text, OUTDOOR)
    assert "\n" not in str(error.value)


def test_a_folder_without_drives_is_refused(tmp_path):
    for kind in ("semantickitti", "kitti", "nuscenes", "a2d2", "waymo", "labels"):
        with pytest.raises(ValueError, match=f"{tmp_path} h.*expected"):
            open_source(f"{kind}:{tmp_path}", OUTDOOR)
    with pytest.raises(ValueError, match="is no bag"):
        open_source(str(tmp_path), OUTDOOR)


def test_scenes_of_a_folder_that_is_one_drive_are_refused(labelled_folders):
    with pytest.raises(ValueError, match="has no scenes to choose from: leave out ':00'"):
        open_source(f"labels:{labelled_folders / '00'}:00", OUTDOOR)
    (part,) = open_source(f"labels:{labelled_folders / '00'}", OUTDOOR)
    assert part.name == "labels-00"


def test_a_class_set_that_does_not_cover_the_source_is_refused(labelled_folders):
    with pytest.raises(ValueError, match="class set 'waymo22' says nothing of 'outdoor10'"):
        open_source("sim:a2d2", load_class_set("waymo22"))
