"""ROS parameters from the two dataclasses that hold their defaults: `Settings` (fixed) and `TTTConfig` (dynamic)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from tttkd_ros.adaptation.config import RANGES, TTTConfig
from tttkd_ros.ros.settings import Settings

PREFIX = "ttt."
STATE_FILE = "state.file"  # read whenever it is needed
DESCRIPTIONS = {
    "enabled": "adapt while running",
    "stride": "train on every n-th sweep",
    "learning_rate": "of plain SGD",
    "bn_momentum": "least share by which BatchNorm's running statistics go towards a training sweep's; 0 freezes them",
    "steps": "SGD steps on each sweep that trains",
    "kd_points": "points per step, drawn at random among those that a camera sees",
    "min_points": "a sweep with fewer points in view does not train",
    "guard": "a step needs the evidence of points held out of it",
    "min_alignment": "least advantage in cosine of a point's own patch over its neighbours, averaged over some steps",
    "max_drop": "largest drop of the held-out cosine below what is usual",
    "max_gradient": "longest gradient, in times what is usual; longer ones are shortened to it",
    "patience": "objections in a row until the guard pauses adaptation, to go on by itself once all is well",
    "scene_steps": "steps on one scene, at most, before the guard has it change first: of use where the robot stands",
    "source_anchoring": "share of the way back to the shipped weights after each step; 0 for none",
}


def declare(node: Node) -> Settings:
    """Declares every parameter and returns the fixed ones.

    Raises rclpy's InvalidParameterValueException or ParameterException for a wrong type or range, ValueError for
    what a range cannot express.
    """
    for f in fields(TTTConfig):
        _declare(node, PREFIX + f.name, f.default, DESCRIPTIONS[f.name], RANGES.get(f.name), read_only=False)
    _declare(node, STATE_FILE, "", "file of the adapted weights, for ~/save, ~/load and what is under state", None,
             read_only=False)
    values = {}
    for f in fields(Settings):
        low, high = f.metadata["low"], f.metadata["high"]
        bounds = None if low is None else (low, high)
        name = f.metadata["name"]
        values[f.name] = _declare(node, name, f.default, f.metadata["description"], bounds, read_only=True)
    # rcl drops an empty list's type, and with it the value; a list of one empty name is how older ones spell it.
    values["cameras"] = tuple(name for name in values["cameras"] or () if name)
    values["offsets"] = tuple(values["offsets"] or ())
    return Settings(**values)


def unknown_parameters(node: Node) -> list[str]:
    """What to say of each first value, of a parameter file or an argument, that no parameter takes after `declare`."""
    given = getattr(node, "_parameter_overrides", {})  # rclpy's own record: it has no public way to tell
    declared = list(node.get_parameters_by_prefix(""))
    told = []
    for name in sorted(given.keys() - declared):
        if not name.startswith("qos_overrides."):  # rclpy declares them with what they are for
            nearest = get_close_matches(name, declared, 1)
            told.append(f"no parameter is called {name}, its value is ignored{f': {nearest[0]}?' if nearest else ''}")
    return told


def read_config(node: Node) -> TTTConfig:
    """The dynamic parameters as they stand."""
    return TTTConfig(**{f.name: node.get_parameter(PREFIX + f.name).value for f in fields(TTTConfig)})


def changed_config(config: TTTConfig, parameters: Iterable[Parameter]) -> TTTConfig:
    """`config` with the dynamic ones among `parameters` replaced; ValueError where the whole does not hold."""
    changes = {p.name[len(PREFIX):]: p.value for p in parameters if p.name.startswith(PREFIX)}
    return replace(config, **changes)


def _declare(node: Node, name: str, default: Any, description: str, bounds, *, read_only: bool) -> Any:
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if bounds is not None:
        low, high = bounds
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)
            ]
    descriptor.dynamic_typing = default == ()  # an empty list has no type that a first value could be held to
    default = list(default) if isinstance(default, tuple) else default
    return node.declare_parameter(name, default, descriptor).value
