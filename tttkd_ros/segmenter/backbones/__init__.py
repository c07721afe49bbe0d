"""The 3D backbones, a module each. A new one is one new file here.

A module has a frozen dataclass `Options` and a class `Network`, a `Backbone` that is made of those options. Its name is
the backbone's. Modules are imported when they are asked for.

A module whose network Pointcept publishes checkpoints of also has a function

    from_pointcept(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]

Its argument holds a segmentor's tensors by Pointcept's names, without the prefixes "module." and "backbone.". A linear
class head beside the backbone has the names "class_head.weight" and "class_head.bias". The function returns the
options, inferred from the shapes, and the tensors by the names of `Network`. A class head inside Pointcept's backbone
becomes "class_head.weight" (classes, channels) and "class_head.bias" (classes,); one beside it stays as it is. The
function raises ValueError if the options cannot be inferred. It checks nothing else, because
`tttkd_ros.segmenter.pointcept` compares names and shapes with those of `Network`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from torch import Tensor

from tttkd_ros.segmenter.backbones.base import Backbone


def names() -> list[str]:
    """Return the names of all backbones."""
    return sorted(module.name for module in iter_modules(__path__) if module.name != "base")


def complete(name: object, given: object) -> dict[str, object]:
    """Return all options of a backbone: those given, and the defaults of the others.

    Raises ValueError if there is no such backbone, or an option is unknown or has a bad value.
    """
    options = _module(name).Options
    known = {field.name for field in fields(options)}
    if not isinstance(given, Mapping):
        raise ValueError(f"options is {given!r}, expected a value for each name")
    if unknown := given.keys() - known:
        raise ValueError(f"backbone {name} has no option {', '.join(sorted(unknown))}, only {', '.join(sorted(known))}")
    # JSON has no tuples.
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    try:
        return asdict(options(**tuples))
    except (TypeError, ValueError) as error:
        raise ValueError(f"options of backbone {name}: {error}") from error


def parse_options(texts: Iterable[str]) -> dict[str, object]:
    """Return options of the command line, each "name=value". A value is JSON's, such as 32, true or [1, 2, 2].

    Raises ValueError for others, or if a name is given twice.
    """
    options = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            if name in options:
                raise ValueError(f"option {name} is given twice")
            options[name] = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"option {text!r}: expected name=number, name=true, name=false or name=[a,b]") from error
    return options


def build(name: str, options: Mapping[str, object], inputs: int, voxel_size: float) -> Backbone:
    """Make a backbone with random weights. inputs, voxel_size: see `Backbone`. Raises as `complete`."""
    module = _module(name)
    return module.Network(module.Options(**complete(name, options)), inputs, voxel_size)


def from_pointcept(name: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return options and tensors of a backbone for those of Pointcept's; see the module's docstring.

    Raises ValueError if Pointcept has no such backbone, or the tensors belong to another one.
    """
    if not hasattr(_module(name), "from_pointcept"):
        raise ValueError(f"backbone {name} is none of Pointcept's: name the one that the checkpoint was trained with")
    return _module(name).from_pointcept(tensors)


def _module(name: object) -> ModuleType:
    if name not in names():
        raise ValueError(f"backbone {name!r} is unknown, expected one of {', '.join(names())}")
    return import_module(f"{__name__}.{name}")
