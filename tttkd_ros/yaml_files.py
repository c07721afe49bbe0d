"""Reads the YAML files that users write: class sets, names of classes, rigs and recipes."""

from __future__ import annotations

from pathlib import Path

import yaml

MAX_VALUES = 100_000  # in a file: the largest, the names of 2**16 classes, has fewer
_SPECIAL = ("tag:yaml.org,2002:merge", "tag:yaml.org,2002:value")  # the keys << and =, which have no value of their own


def read_yaml(path: str | Path, what: str) -> object:
    """Read a YAML file as plain values. It is UTF-8, and each mapping has each key once.

    Args:
        what: the kind of file, for the error.

    Raises:
        ValueError: the file is unreadable, damaged, or has too many values, or a key occurs twice. One line with the
            file and what to do.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)  # noqa: S506 (a safe loader)
    except _KeyTwice as error:
        raise ValueError(f"{what} {path}: {error}") from None
    except OSError as error:
        raise ValueError(f"{what} {path} cannot be read ({error.strerror}): name another file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} {path} is not UTF-8 ({error}): save it as UTF-8") from error
    except Exception as error:  # PyYAML raises more than its own errors
        raise ValueError(f"{what} {path} is not YAML ({_reason(error)}): correct it") from error
    # YAML aliases can make a tree of a few lines endless, and so any text about it.
    remaining, count = [content], 0
    while remaining and count < MAX_VALUES:
        value, count = remaining.pop(), count + 1
        value = list(value.values()) if isinstance(value, dict) else value
        remaining += value if isinstance(value, (list, tuple, set)) else ()
    if remaining:
        raise ValueError(f"{what} {path} has more than {MAX_VALUES} values, counting each alias as what it stands for: "
                         "write fewer")
    return content


class _KeyTwice(Exception):
    """A mapping has a key twice."""


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice. YAML's own loaders keep the last one."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        # Later, the keys of an alias behind << count as the mapping's own, which may override them.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # PyYAML refuses it
            value = key.value if key.tag in _SPECIAL else self.construct_object(key)  # 1 and 0x1 are one key
            if value in seen:
                raise _KeyTwice(f"{key.value!r} occurs twice in one mapping, again in line {key.start_mark.line + 1}: "
                                "keep one of them")
            seen.add(value)
        return node


def _reason(error: Exception) -> str:
    """What is wrong, on one line, with the number of the line if it is known."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {' '.join(error.problem.split())}"
    return " ".join(str(error).split()) if isinstance(error, yaml.YAMLError) else repr(error)
