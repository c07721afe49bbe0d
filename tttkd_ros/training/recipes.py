"""Recipes: settings in a YAML file."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from tttkd_ros.paths import shipped_path
from tttkd_ros.training.config import TrainingConfig
from tttkd_ros.yaml_files import read_yaml

FOLDER = "config/training"
T = TypeVar("T")


def load_recipe(name: str) -> TrainingConfig:
    """Read a recipe by its name in `FOLDER`, or by its path.

    Raises ValueError if there is none, or a key or a value is none of `TrainingConfig`.
    """
    return read_recipe(name, FOLDER, TrainingConfig(), {"recipe": name})


def read_recipe(name: str, folder: str, defaults: T, fixed: Mapping[str, object] = MappingProxyType({})) -> T:
    """Read a dataclass of settings from a YAML file, by its name in a shipped folder or by its path.

    fixed: values that the file may not have. Raises ValueError if there is no such file, or a key or a value is none of
    the dataclass's.
    """
    path = _find(name, folder)
    content = read_yaml(path, "recipe")
    try:
        return _filled(defaults, content or {}, fixed)
    except ValueError as error:
        raise ValueError(f"recipe {path}: {error}") from error


def recipe_of(arguments: Sequence[str]) -> str:
    """Find the recipe that command-line arguments name, or the default."""
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", nargs="?", default=None)
    return parser.parse_known_args(list(arguments))[0].recipe or TrainingConfig.recipe


def _find(name: str, shipped: str) -> Path:
    if Path(name).is_file():
        return Path(name)
    folder = shipped_path(shipped)
    path = folder / f"{name}.yaml"
    if Path(name).name != name or not path.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.yaml")))
        raise ValueError(f"recipe {name!r} is unknown: name a YAML file, or one of {known}")
    return path


def _filled(defaults, content: object, fixed: Mapping[str, object], prefix: str = ""):
    """Return a copy of a dataclass with other values."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{prefix.rstrip('.') or 'it'} holds {content!r}, expected a value for each key")
    values = {field.name: getattr(defaults, field.name) for field in fields(defaults)}
    if unknown := [str(key) for key in content if key not in values or key in fixed]:
        known = ", ".join(sorted(values.keys() - fixed.keys()))
        raise ValueError(f"key {', '.join(prefix + key for key in unknown)} is unknown, expected some of {known}")
    types = get_type_hints(type(defaults))
    given = {key: _converted(types[key], values[key], value, prefix + key) for key, value in content.items()}
    return type(defaults)(**values | given | fixed)


def _converted(kind: object, default: object, value: object, name: str):
    """Convert a YAML value to the type of an option."""
    if is_dataclass(kind):
        return _filled(kind() if default is None else default, value, {}, f"{name}.")
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {value!r}, expected a name for each entry")
        return {str(key): _converted(get_args(kind)[1], None, each, f"{name}.{key}") for key, each in value.items()}
    if get_origin(kind) is tuple:
        values = value if isinstance(value, list) else [value]
        return tuple(_converted(get_args(kind)[0], None, each, name) for each in values)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(get_args(kind))}")
        return value
    if kind in (Path, Path | None) and isinstance(value, str):
        return Path(value).expanduser()
    if kind is float and type(value) in (int, float, str):
        with suppress(ValueError):
            return float(value)  # YAML 1.1 takes 1e-4 for text
    if type(value) is not kind:
        raise ValueError(f"{name} is {value!r}, expected {getattr(kind, '__name__', kind)}")
    return value
