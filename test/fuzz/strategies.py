"""Hypothesis strategies that damage valid inputs: bytes, documents, files and messages.

Every strategy may also return a valid input unchanged, and does so first.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from contextlib import suppress
from copy import deepcopy
from dataclasses import is_dataclass
from functools import cache

import numpy as np
from hypothesis import strategies as st
from ruamel.yaml import YAML

# Long text and zeros, such as message definitions, where damage rarely has an effect.
PADDING = re.compile(rb"[ -~\n]{100,}|\0{100,}")
NUMBERS = [
    (number % 2 ** (8 * size)).to_bytes(size, order)
    for number in (0, 1, 2, 0x7F, 0x80, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**40, 2**63, 2**64 - 1)
    for size in (1, 2, 4, 8) for order in ("little", "big")
]  # fmt: skip
EDITS = st.integers(0, 4)  # per input
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([255, 2**31, 2**63, 10**400, "\ud800", "../..", "é" * 300])
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
FIELD_VALUES = {  # in messages, by the type of the value
    bool: st.booleans(),
    int: st.sampled_from([0, 1, 2, 7, 8, 16, 255, 2**16 - 1, 2**31, 2**32 - 1, -1, -(2**31)]) | st.integers(0, 100),
    float: st.floats() | st.sampled_from([1e-320, 1e30, -1.7e308]),
    str: st.text(max_size=6) | st.sampled_from([
        "x", "y", "z", "intensity", "label", "t", "time", "rgb8", "nv12", "mono16", "bayer_rggb8", "uyvy",
        "plumb_bob", "equidistant", "rational_polynomial", "lidar", "/lidar",
    ]),
}  # fmt: skip


@st.composite
def mutated_bytes(draw, *originals: bytes) -> bytes:
    """One of the originals with some bytes overwritten, inserted, copied or removed."""
    data = bytearray(draw(st.sampled_from(originals)))
    offsets = _offsets(bytes(data))
    for _ in range(draw(EDITS)):
        start = draw(st.sampled_from(offsets) | st.integers(0, len(data)))
        source = draw(st.integers(0, len(data)))
        new = draw(st.binary(max_size=8) | st.sampled_from(NUMBERS) | st.just(bytes(data[source : source + 40])))
        removed = draw(st.sampled_from([len(new), len(new), len(new), 0, 1, 40, len(data)]))
        data[start : start + removed] = new
    return bytes(data)


@cache
def _offsets(data: bytes) -> list[int]:
    """Offsets outside long padding."""
    padding = {offset for match in PADDING.finditer(data) for offset in range(match.start() + 16, match.end() - 16)}
    return [offset for offset in range(len(data) + 1) if offset not in padding]


@st.composite
def mutated_document(draw, original):
    """Nested dicts and lists with some values replaced by any others, removed, or copied over others."""
    root = [deepcopy(original)]  # a list, so that the original has a container too
    for _ in range(draw(EDITS)):
        values = list(_values(root))
        container, key = draw(st.sampled_from(values))
        change = draw(st.sampled_from(["replace", "replace", "remove", "copy"]))
        if change == "remove" and container is not root:
            del container[key]
        elif change == "copy":
            source, name = draw(st.sampled_from(values))
            container[key] = deepcopy(source[name])
        else:
            container[key] = draw(DOCUMENTS)
    return root[0]


@st.composite
def mutated_message(draw, *originals):
    """A message of rosbags with some fields set to other values of their types."""
    message = deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(EDITS)):
        container, key = draw(st.sampled_from(list(_values(message))))
        value = container[key]
        if type(value) in FIELD_VALUES:
            container[key] = draw(FIELD_VALUES[type(value)])
        elif isinstance(value, np.ndarray) and value.dtype == np.uint8:
            container[key] = np.frombuffer(draw(mutated_bytes(value.tobytes())), np.uint8)
        elif isinstance(value, np.ndarray):
            numbers = st.floats() | st.sampled_from([0.0, *value.tolist()])
            container[key] = np.array(draw(st.lists(numbers, max_size=14)))
        elif isinstance(value, list):
            first, last, times = draw(st.tuples(st.integers(0, 1), st.integers(0, len(value)), st.integers(1, 2)))
            container[key] = deepcopy(value[first:last]) * times
    return message


def _values(node):
    """Yield the container and the key of every value inside."""
    keys = ()
    if is_dataclass(node):
        node = vars(node)
        keys = [name for name in node if name.islower() and name != "__msgtype__"]  # the rest are constants
    elif isinstance(node, dict):
        keys = list(node)
    elif isinstance(node, list):
        keys = range(len(node))
    for key in keys:
        yield node, key
        yield from _values(node[key])


def mutated_file(name: str, content: bytes) -> st.SearchStrategy[bytes]:
    """The content of a file, damaged as bytes and by its format."""
    as_bytes = mutated_bytes(content)
    if name.endswith((".json", ".yaml")):
        return as_bytes | mutated_document(YAML(typ="safe").load(content.decode())).map(_json)
    if name.endswith(".npz"):
        return as_bytes | _mutated_archive(content)
    return as_bytes | _mutated_header(content) if name.endswith(".safetensors") else as_bytes


def mutated_folder(files: dict[str, bytes]) -> st.SearchStrategy[tuple[str, bytes]]:
    """The name of one of the files, and its damaged content."""
    strategies = {name: mutated_file(name, content) for name, content in files.items()}
    return st.sampled_from(sorted(files)).flatmap(lambda name: st.tuples(st.just(name), strategies[name]))


@st.composite
def _mutated_archive(draw, content: bytes) -> bytes:
    """A zip with a damaged member, whose checksum is right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as original, zipfile.ZipFile(file, "w") as archive:
        damaged = draw(st.sampled_from(sorted(original.namelist())))
        for name in original.namelist():
            data = original.read(name)
            archive.writestr(name, draw(mutated_bytes(data)) if name == damaged else data)
    return file.getvalue()


def _mutated_header(content: bytes) -> st.SearchStrategy[bytes]:
    """A safetensors file with a damaged header, or damaged JSON in the metadata of the header."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    metadata = header.get("__metadata__", {})
    variants = [mutated_document(header)]
    for name, text in metadata.items():
        with suppress(ValueError):  # not JSON
            changed = mutated_document(json.loads(text)).map(_json)
            variants.append(changed.map(lambda new, name=name: (
                header | {"__metadata__": metadata | {name: new.decode()}}
            )))  # fmt: skip
    headers = st.one_of(variants).map(_json)
    return headers.map(lambda encoded: len(encoded).to_bytes(8, "little") + encoded + data)


def _json(document) -> bytes:
    return json.dumps(document).encode()
