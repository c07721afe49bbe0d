"""Parameters in an rclpy node of this process; nothing is sent."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

rclpy = pytest.importorskip("rclpy")

from rclpy.exceptions import InvalidParameterValueException  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from tttkd_ros.adaptation.config import TTTConfig, paper_config  # noqa: E402
from tttkd_ros.ros import parameters  # noqa: E402
from tttkd_ros.ros.settings import Settings  # noqa: E402
from tttkd_ros.teacher.engines import ENGINES  # noqa: E402

FILE = Path(__file__).resolve().parents[2] / "config/segment.yaml"


def test_the_parameter_file_lists_every_parameter_with_its_default(make_bare_node):
    node = make_bare_node()
    parameters.declare(node)
    automatic = {"use_sim_time", "start_type_description_service"}  # rclpy's own
    declared = {name: p.value for name, p in node.get_parameters_by_prefix("").items() if name not in automatic}
    assert yaml.safe_load(FILE.read_text())["/**"]["ros__parameters"] == declared


def test_the_parameter_file_explains_every_parameter():
    lines = [line for line in FILE.read_text().splitlines() if line.startswith("    ") and ":" in line.split("#")[0]]
    assert len(lines) == len(fields(Settings)) + len(fields(TTTConfig)) + 1  # state.file
    assert all(" # " in line for line in lines)
    fixed = [line for line in lines if line.endswith("(fixed)")]
    assert len(fixed) == len(fields(Settings))


def test_a_value_that_no_parameter_takes_is_told_with_the_name_that_comes_nearest(make_bare_node, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("/**: {ros__parameters: {ttt.strid: 3, ttt.stride: 2, qos_overrides./points.depth: 1}}")
    node = make_bare_node("--params-file", str(file), "-p", "map:=town")
    parameters.declare(node)
    assert parameters.unknown_parameters(node) == [
        "no parameter is called map, its value is ignored",
        "no parameter is called ttt.strid, its value is ignored; did you mean ttt.stride?",
    ]


def test_of_known_ones_nothing_is_told(make_bare_node):
    node = make_bare_node("--params-file", str(FILE), "-p", "use_sim_time:=true")
    parameters.declare(node)
    assert parameters.unknown_parameters(node) == []


def test_defaults_are_those_of_the_dataclasses(make_bare_node):
    node = make_bare_node()
    assert parameters.declare(node) == Settings()
    assert parameters.read_config(node, Settings()) == TTTConfig()


def test_every_dynamic_parameter_has_a_description(make_bare_node):
    node = make_bare_node()
    parameters.declare(node)
    for name in (*(f"ttt.{f.name}" for f in fields(TTTConfig)), parameters.STATE_FILE):
        assert node.describe_parameter(name).description


def test_first_values_are_taken_over(make_bare_node):
    node = make_bare_node(cameras=["left", "right"], ttt__stride=7, qos__depth=3)
    settings = parameters.declare(node)
    assert (settings.cameras, settings.depth) == (("left", "right"), 3)
    assert parameters.read_config(node, Settings()) == TTTConfig(stride=7)


@pytest.mark.parametrize("none", ["[]", "['']"])
def test_no_camera_can_be_asked_for(make_bare_node, none):
    assert parameters.declare(make_bare_node("-p", f"cameras:={none}")).cameras == ()


@pytest.mark.parametrize("offset", [-0.02, -37.0, 1.7e9])
def test_each_camera_can_have_its_offset_however_long(make_bare_node, offset):
    node = make_bare_node(cameras=["left", "right"], matching__offsets=[0.0, offset])
    assert parameters.declare(node).offsets == (0.0, offset)


@pytest.mark.parametrize("offsets", [[0.1], [0.1, 0.2, 0.3], [float("nan"), 0.0], [0.0, float("-inf")], ["a", "b"]])
def test_offsets_that_do_not_fit_the_cameras_are_refused_by_name(make_bare_node, offsets):
    with pytest.raises(ValueError, match="'matching.offsets' is .*expected none, or as many as cameras .2., each a"):
        parameters.declare(make_bare_node(cameras=["left", "right"], matching__offsets=offsets))


@pytest.mark.parametrize("overrides", [{"ttt__stride": 0}, {"queue": 0}, {"matching__tolerance": -0.1}])
def test_a_first_value_out_of_range_is_refused_by_name(make_bare_node, overrides):
    (name,) = overrides
    with pytest.raises(InvalidParameterValueException, match=name.replace("__", ".")):
        parameters.declare(make_bare_node(**overrides))


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [({"engine": "steam"}, "parameter 'engine' is 'steam': expected one of auto, eager"),
     ({"qos__reliability": "certain"}, "'qos.reliability' is 'certain': expected one of auto, reliable, best_effort"),
     ({"image_transport": "theora"}, "expected one of raw, compressed"),
     ({"cameras": ["left", "left"]}, "expected each camera once")],
)
def test_a_wrong_choice_is_refused_with_the_right_ones(make_bare_node, overrides, complaint):
    with pytest.raises(ValueError, match=complaint):
        parameters.declare(make_bare_node(**overrides))


def test_every_engine_can_be_chosen():
    for engine in ENGINES:
        assert Settings(engine=engine).engine == engine


def test_the_papers_settings_override_the_parameters(make_bare_node):
    node = make_bare_node(paper=True, ttt__stride=7, ttt__guard=True)
    settings = parameters.declare(node)
    config = parameters.read_config(node, settings)
    assert config == paper_config(TTTConfig(stride=7))
    changed = parameters.changed_config(config, settings, [Parameter("ttt.bn_momentum", value=0.1)])
    assert changed == config != TTTConfig(stride=7)


def test_only_dynamic_parameters_change_the_config():
    change = [Parameter("ttt.steps", value=3), Parameter("seed", value=9)]
    assert parameters.changed_config(TTTConfig(), Settings(), change) == TTTConfig(steps=3)


def test_the_settings_of_the_rotated_steps_are_parameters(make_bare_node):
    first = make_bare_node(ttt__rotations=2, ttt__seconds=1.5, ttt__crop=0.0)
    parameters.declare(first)
    config = parameters.read_config(first, Settings())
    assert config == TTTConfig(rotations=2, seconds=1.5, crop=0.0)
    values = {"ttt.rotations": 8, "ttt.seconds": 0.0, "ttt.crop": 3.0}
    change = [Parameter(name, value=value) for name, value in values.items()]
    assert parameters.changed_config(config, Settings(), change) == TTTConfig(rotations=8, seconds=0.0, crop=3.0)
    for beyond in ({"ttt__rotations": 17}, {"ttt__seconds": -0.1}, {"ttt__crop": 100.5}):
        with pytest.raises(InvalidParameterValueException, match=next(iter(beyond)).replace("__", ".")):
            parameters.declare(make_bare_node(**beyond))


def test_a_config_that_does_not_hold_is_refused_whole():
    change = [Parameter("ttt.steps", value=3), Parameter("ttt.stride", value=0)]
    with pytest.raises(ValueError, match="stride"):
        parameters.changed_config(TTTConfig(), Settings(), change)
