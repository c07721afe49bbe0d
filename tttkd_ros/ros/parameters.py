"""ROS parameters from the dataclasses that hold their defaults: `Settings` (fixed) and `TTTConfig` (dynamic)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from tttkd_ros.adaptation.config import RANGES, TTTConfig, paper_config
from tttkd_ros.ros.settings import Settings

PREFIX = "ttt."
STATE_FILE = "state.file"  # dynamic: read whenever it is needed
DESCRIPTIONS = {
    "enabled": "adapt while running",
    "stride": "train on every n-th sweep",
    "learning_rate": "of plain SGD",
    "bn_momentum": "minimum momentum of BatchNorm's running statistics on training sweeps; 0 freezes them",
    "steps": "maximum SGD steps on each training sweep",
    "rotations": "rotations of the cloud about the vertical that the steps on a sweep are taken on in turn",
    "seconds": "no further step on a sweep is begun after so many seconds; 0 for no limit",
    "crop": "edge in metres of the cubes around visible points that steps use; 0 uses the whole cloud",
    "kd_points": "points per step, drawn at random among those in view of a camera",
    "min_points": "a sweep with fewer points in view does not train",
    "guard": "check the alignment of image and sweep before each step",
    "min_alignment": "minimum advantage in cosine of points' own patches over neighbours, mean over five sweeps",
    "patience": "rejections in a row until the guard pauses adaptation; it resumes by itself",
    "scene_steps": "maximum sweeps of one scene to train on, so that a parked robot does not overfit",
    "source_anchoring": "share of the way back to the shipped weights after each step; 0 for none",
}


def declare(node: Node) -> Settings:
    """Declare every parameter and return the fixed ones.

    Raises:
        ParameterException: for a wrong type or a value out of range.
        ValueError: for what a range cannot express.
    """
    for f in fields(TTTConfig):
        _declare(node, PREFIX + f.name, f.default, DESCRIPTIONS[f.name], RANGES.get(f.name), read_only=False)
    _declare(node, STATE_FILE, "", "file of the adapted weights, for ~/save, ~/load and the parameters state.*", None,
             read_only=False)
    values = {}
    for f in fields(Settings):
        low, high = f.metadata["low"], f.metadata["high"]
        bounds = None if low is None else (low, high)
        values[f.name] = _declare(
            node, f.metadata["name"], f.default, f.metadata["description"], bounds, read_only=True
        )
    # rcl drops an empty list together with its type; a list of one empty name is how users write it instead.
    values["cameras"] = tuple(name for name in values["cameras"] or () if name)
    values["offsets"] = tuple(values["offsets"] or ())
    return Settings(**values)


def unknown_parameters(node: Node) -> list[str]:
    """Warnings for values of a parameter file or an argument that match no declared parameter."""
    given = getattr(node, "_parameter_overrides", {})  # rclpy has no public access to them
    declared = list(node.get_parameters_by_prefix(""))
    warnings = []
    for name in sorted(given.keys() - declared):
        if not name.startswith("qos_overrides."):  # rclpy declares these together with their topics
            closest = get_close_matches(name, declared, 1)
            hint = f"; did you mean {closest[0]}?" if closest else ""
            warnings.append(f"no parameter is called {name}, its value is ignored{hint}")
    return warnings


def read_config(node: Node, settings: Settings) -> TTTConfig:
    """The present settings of adaptation."""
    return _config({f.name: node.get_parameter(PREFIX + f.name).value for f in fields(TTTConfig)}, settings)


def changed_config(config: TTTConfig, settings: Settings, changed: Iterable[Parameter]) -> TTTConfig:
    """The settings of adaptation after a change of parameters. Raises ValueError if they are not valid."""
    values = {p.name[len(PREFIX):]: p.value for p in changed if p.name.startswith(PREFIX)}
    return _config(asdict(config) | values, settings)


def _config(values: dict[str, Any], settings: Settings) -> TTTConfig:
    config = TTTConfig(**values)
    return paper_config(config) if settings.paper else config


def _declare(node: Node, name: str, default: Any, description: str, bounds, *, read_only: bool) -> Any:
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if bounds is not None and isinstance(default, int):
        descriptor.integer_range = [IntegerRange(from_value=int(bounds[0]), to_value=int(bounds[1]), step=0)]
    elif bounds is not None:
        low, high = map(float, bounds)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    descriptor.dynamic_typing = default == ()  # an empty list has no type to hold a first value to
    default = list(default) if isinstance(default, tuple) else default
    return node.declare_parameter(name, default, descriptor).value
