"""Inputs made of sound ones: a codec or reader that survives all of them survives what disks, networks and users do.

Bytes with damage, documents with other values in them, messages with other numbers in their fields. What is done to
each follows from a tape, a few random bytes: drawing one for a whole input is what makes 100,000 of them feasible.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

TAPE = 48  # bytes of a tape


class Tape:
    """Random bytes, spent on choices. The first two say how many there are to spend, and so how much is changed."""

    def __init__(self, content: bytes):
        self._content, self._at = content[: 6 + content[0] * content[1] * TAPE // 2**16], 2  # a few, mostly

    def __bool__(self) -> bool:
        return self._at < len(self._content)

    def take(self, size: int) -> bytes:
        """The next bytes, zeros past the end."""
        self._at += size
        return self._content[self._at - size : self._at].ljust(size, b"\0")

    def part(self, size: int) -> Tape:
        """A tape of the next bytes, all of them to spend."""
        return Tape(b"\xff\xff" + self.take(size))

    def below(self, limit: int) -> int:
        return int.from_bytes(self.take(2), "little") % limit

    def choose(self, choices: Sequence):
        return choices[self.below(len(choices))]


# Bytes

_DULL = re.compile(rb"[ -~\n]{100,}|\0{100,}")  # long text and padding, in which hardly a change is worth making
_COUNTS = [0, 1, 2, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
_NUMBERS = [
    (count % 2 ** (8 * size)).to_bytes(size, order)
    for count in _COUNTS for size in (1, 2, 4, 8) for order in ("little", "big")
]  # fmt: skip
_EDITS = ("flip", "set", "number", "number", "cut", "drop", "double", "splice", "invent")


def damaged(*wholes: bytes) -> Callable[[Tape], bytes]:
    """One of `wholes` with bits flipped, numbers set to their limits, parts cut, doubled, moved or made up."""
    known = [(whole, _places(whole)) for whole in wholes]
    return lambda tape: _damage(*tape.choose(known), tape)


def _places(whole: bytes) -> list[range]:
    """Offsets by stretches: what is not dull, the same again, and all."""
    bounds = [0, *(at for dull in _DULL.finditer(whole) for at in (dull.start() + 16, dull.end() - 16)), len(whole)]
    telling = [range(*pair) for pair in zip(bounds[::2], bounds[1::2], strict=True) if pair[0] < pair[1]]
    return [*telling, *telling, range(len(whole) + 1)]


def _damage(whole: bytes, places: list[range], tape: Tape) -> bytes:
    data = bytearray(whole)
    while tape:
        at, edit = tape.choose(tape.choose(places)), tape.choose(_EDITS)
        if edit == "flip":
            data[at : at + 1] = bytes(byte ^ 1 << tape.below(8) for byte in data[at : at + 1])
        elif edit == "set":
            data[at : at + 1] = tape.take(1)
        elif edit == "number":
            number = tape.choose(_NUMBERS)
            data[at : at + len(number)] = number
        elif edit == "cut":
            del data[at:]
        elif edit == "drop":
            del data[at : at + 1 + tape.below(64)]
        elif edit == "double":
            data[at:at] = data[at : at + 1 + tape.below(64)]
        elif edit == "splice":
            other, length = tape.choose(tape.choose(places)), 1 + tape.below(64)
            data[at : at + length] = data[other : other + length]
        else:
            data[at:at] = tape.take(tape.below(9))
    return bytes(data)


# Documents: trees of dicts and lists, as JSON and YAML have them

_ODD = [
    None, True, False, 0, 1, 2, 3, 255, 256, -1, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.5, -0.0, 1e-320, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "1", "nan", "x", "\0", "\ud800", "/", "../..", "\n", "é" * 300,
    [], [[]], [1], ["x"], [None] * 3, [[1.0] * 4] * 4, {}, {"a": 1}, {"": None},
]  # fmt: skip
_CHANGES = ("replace", "replace", "replace", "remove", "rename", "double", "swap")


def changed(*wholes) -> Callable[[Tape], Any]:
    """One of `wholes` with some of its nodes replaced by values of any kind, removed, renamed, doubled or swapped."""
    known = [(whole, list(_paths(whole))) for whole in wholes]
    return lambda tape: _change(*tape.choose(known), tape)


def _change(whole, paths: list[tuple], tape: Tape):
    tree = [deepcopy(whole)]  # in a list, so that the root has a parent as well
    while tape:
        path, change = tape.choose(paths), tape.choose(_CHANGES)
        found = _parent(tree, (0, *path))
        if found is None:
            continue
        parent, key = found
        if change == "replace":
            parent[key] = _odd(tape)
        elif change == "swap":
            other = _parent(tree, (0, *tape.choose(paths)))
            parent[key] = deepcopy(other[0][other[1]]) if other is not None else None
        elif parent is tree:
            continue
        elif change == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, deepcopy(parent[key]))
        else:
            value = parent.pop(key) if change == "rename" else parent[key]
            parent[_text(tape)] = value
    return tree[0]


def _odd(tape: Tape):
    kind = tape.below(8)
    if kind == 5:
        return tape.below(600) - 300
    if kind == 6:
        return _float(tape)
    if kind == 7:
        return _text(tape)
    return deepcopy(tape.choose(_ODD))


def _float(tape: Tape) -> float:
    return struct.unpack("<d", tape.take(8))[0]


def _text(tape: Tape) -> str:
    return tape.take(tape.below(7)).decode("utf-16", "replace")


def _paths(tree, path=()):
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from _paths(value, (*path, key))


def _parent(tree, path):
    """(container, key) of the node at `path`; None where an earlier change has taken it away."""
    for key in path[:-1]:
        try:
            tree = tree[key]
        except (LookupError, TypeError):
            return None
    key = path[-1]
    there = key in tree if isinstance(tree, dict) else isinstance(tree, list) and key in range(len(tree))
    return (tree, key) if there else None


# Files


def ways(name: str, content: bytes) -> list[Callable[[Tape], bytes]]:
    """To change a file of that name: as bytes, JSON as a document, what is in an .npz with checksums that fit again."""
    made = [damaged(content)]
    if name.endswith(".json"):
        change = changed(json.loads(content))
        made += [lambda tape: json.dumps(change(tape)).encode()] * 2
    if name.endswith(".npz"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        damage = {member: damaged(data) for member, data in members.items()}

        def archived(tape) -> bytes:
            chosen, file = tape.choose(sorted(members)), io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                for member, data in members.items():
                    archive.writestr(member, damage[member](tape) if member == chosen else data)
            return file.getvalue()

        made += [archived] * 2
    return made


# Messages: trees as well, whose leaves keep their types, as every middleware sees to

_INTEGERS = [0, 1, 2, 3, 4, 7, 8, 9, 12, 16, 255, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, -1, -(2**31)]
_FLOATS = [0.0, -0.0, 1.0, 1e-320, 1e-30, 1e30, 1e200, 1.7e308, -1.7e308, float("nan"), float("inf"), float("-inf")]
_NAMES = ["", "x", "y", "z", "intensity", "label", "t", "time", "confidence", "rgb8", "nv12", "mono16", "bayer_rggb8",
          "uyvy", "plumb_bob", "equidistant", "rational_polynomial", "lidar", "/lidar"]  # fmt: skip


def message(*wholes: dict) -> Callable[[Tape], dict]:
    """One of `wholes` with some of its fields set to other values of their types, lists and data resized."""
    known = [(whole, list(_paths(whole))[1:]) for whole in wholes]

    def made(tape: Tape) -> dict:
        whole, paths = tape.choose(known)
        tree = deepcopy(whole)
        while tape:
            found = _parent(tree, tape.choose(paths))
            if found is not None:
                parent, key = found
                parent[key] = _other(parent[key], tape)
        return tree

    return made


def _other(value, tape: Tape):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return tape.choose(_INTEGERS) if tape.below(2) else tape.below(100)
    if isinstance(value, float):
        return tape.choose(_FLOATS) if tape.below(2) else _float(tape)
    if isinstance(value, str):
        return tape.choose(_NAMES) if tape.below(4) else _text(tape)
    if isinstance(value, bytes):
        return _damage(value, [range(len(value) + 1)], tape.part(12))
    if isinstance(value, list):
        return value[tape.below(2) : tape.below(len(value) + 2)] * tape.below(3)
    return value


def as_object(tree):
    """A message's tree as an object with its fields."""
    if isinstance(tree, dict):
        return SimpleNamespace(**{name: as_object(value) for name, value in tree.items()})
    return [as_object(value) for value in tree] if isinstance(tree, list) else tree


def as_tree(message):
    """A message of rosbags' as a tree."""
    if isinstance(message, np.ndarray):
        return message.tobytes() if message.dtype == np.uint8 else message.tolist()
    if isinstance(message, list):
        return [as_tree(value) for value in message]
    if is_dataclass(message):
        names = [entry.name for entry in fields(message) if re.match("[a-z]", entry.name)]  # the rest are constants
        return {name: as_tree(getattr(message, name)) for name in names}
    return message
