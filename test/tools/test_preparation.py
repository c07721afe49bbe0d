"""What evaluate.launch.py needs to know about a bag and the node's parameters."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rclpy")

from tttkd_ros.bags.writer import BagWriter  # noqa: E402
from tttkd_ros.simulation.drive import frames  # noqa: E402
from tttkd_ros.tools.preparation import main, prepare  # noqa: E402

TOPICS = ("/lidar/points", "/camera_front/image", "/camera_front/camera_info")


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bag") / "drive"
    with BagWriter(path) as writer:
        for frame in frames("kitti", 1, 1):
            writer.write_frame(frame)
    return path


@pytest.fixture
def prepared(bag, models, tmp_path):
    """`prepared(**parameters)`, of the node; `given`: instead of prepare's arguments."""

    files = {"rig": models.rig, "model": models.student, "teacher": models.teacher}

    def run(given=None, **parameters):
        lines = [f"    {name.replace('__', '.')}: {json.dumps(value)}" for name, value in parameters.items()]
        file = tmp_path / "parameters.yaml"
        file.write_text("\n".join(["/**:", "  ros__parameters:", "    cameras: [camera_front]", *lines]))
        arguments = {"bag": bag, "params_file": file, "out": tmp_path / "out"} | (given or {})
        node = {name: arguments.pop(name, str(path)) for name, path in files.items()}
        node |= arguments.pop("node", {})
        return prepare(arguments.pop("bag"), given=json.dumps(node), **arguments)

    return run


def options(preparation) -> dict[str, str]:
    words = preparation.options
    return {word: words[place + 1] for place, word in enumerate(words[:-1]) if word.startswith("--")}


def test_the_replay_gets_the_node_s_settings(prepared, models):
    found = options(prepared(ttt__stride=7, ttt__learning_rate=0.25, ttt__guard=False, seed=3, engine="eager"))
    assert found["--method"] == "ttt-kd-o"
    assert (found["--stride"], found["--learning-rate"], found["--seed"]) == ("7", "0.25", "3")
    assert "--no-guard" in found
    assert (found["--rig"], found["--model"], found["--teacher"]) == (
        str(models.rig), str(models.student), str(models.teacher)
    )


@pytest.mark.parametrize("offset", [-37.0, 0.02, 1e9])
def test_the_replay_matches_images_as_the_node_does(prepared, offset):
    preparation = prepared(matching__offsets=[offset], matching__tolerance=0.02, motion__fixed_frame="map")
    found = options(preparation)
    assert (found["--offset"], found["--tolerance"], found["--fixed-frame"]) == (str(offset), "0.02", "map")
    assert preparation.not_replayed == ()


def test_parameters_that_replay_does_not_have_are_named(prepared):
    assert prepared(ttt__stride=7).not_replayed == ()
    not_replayed = prepared(ttt__source_anchoring=0.5, ttt__steps=2).not_replayed
    assert not_replayed == ("ttt.steps: 2", "ttt.source_anchoring: 0.5")
    assert prepared(state__load_at_start=True).not_replayed == ("state.load_at_start: True",)


def test_only_topics_that_the_node_subscribes_to_are_played(prepared, monkeypatch):
    assert prepared().topics == TOPICS
    monkeypatch.setattr("tttkd_ros.tools.preparation.find_spec", lambda name: name == "tf2_ros")
    assert prepared().topics == (*TOPICS, "/tf_static")


@pytest.mark.parametrize(
    ("given", "parameters"),
    [({}, {"ttt__enabled": False}), ({"teacher": ""}, {"teacher": ""}), ({"teacher": ""}, {}), ({}, {"cameras": [""]})],
)
def test_a_node_that_does_not_adapt_is_replayed_frozen(prepared, given, parameters):
    found = options(prepared(given, **parameters))
    assert found["--method"] == "frozen"
    assert "--stride" not in found


def test_a_node_that_only_segments_need_not_be_ready_to_adapt(prepared):
    assert len(prepared().awaited) == 2
    assert len(prepared({"teacher": ""}, teacher="").awaited) == 1


def test_remapped_images_are_played_and_replayed_by_replays_name(prepared):
    remapped = {"front/image": "/camera_front/image", "front/camera_info": "/camera_front/camera_info"}
    found = prepared({"node": {"cameras": ["front"]}, "remapped": json.dumps(remapped)})
    assert found.topics == TOPICS
    assert options(found)["--cameras"] == "camera_front"


def test_wrong_arguments_are_refused(prepared, tmp_path):
    for given, parameters, message in (
        ({"bag": tmp_path / "nowhere"}, {}, "no bag at"),
        ({"params_file": tmp_path / "nowhere"}, {}, "no parameter file at"),
        ({"points": "/velodyne_points"}, {}, "no sensor_msgs/msg/PointCloud2 topic '/velodyne_points'"),
        ({"model": "/nowhere"}, {}, "no such file or directory: /nowhere"),
        ({}, {"cameras": ["camera_rear"]}, "which the node subscribes to for 'camera_rear'"),
        ({}, {"ttt__stride": 0}, "stride"),
    ):
        with pytest.raises(ValueError, match=message):
            prepared(given, **parameters)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(ValueError, match="out exists already"):
        prepared()


def test_it_prints_json_or_one_line_with_the_error(bag, models, tmp_path, monkeypatch, capsys):
    (tmp_path / "parameters.yaml").write_text("/**:\n  ros__parameters:\n    cameras: [camera_front]\n")
    node = {"rig": str(models.rig), "model": str(models.student), "teacher": str(models.teacher)}
    options = ["--params-file", tmp_path / "parameters.yaml", "--out", tmp_path / "out", "--given", json.dumps(node)]

    def run(folder):
        monkeypatch.setattr("sys.argv", ["preparation", str(folder), *map(str, options)])
        main()

    run(bag)
    assert json.loads(capsys.readouterr().out)["topics"] == list(TOPICS)
    with pytest.raises(SystemExit) as end:
        run(tmp_path / "nowhere")
    assert end.value.code == f"no bag at {tmp_path / 'nowhere'}"  # Python prints it and exits with status 1
    assert capsys.readouterr().out == ""
