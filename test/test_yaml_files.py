import re

import pytest

from tttkd_ros.yaml_files import read_yaml


@pytest.fixture
def read(tmp_path):
    """`read(content)`: text or bytes as a file."""

    def read(content):
        path = tmp_path / "own.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_yaml(path, "recipe")

    return read


@pytest.mark.parametrize(("text", "expected"), [
    ("a: {b: [1, x]}", {"a": {"b": [1, "x"]}}),
    ("", None),
    ("\ufeffstraße: é", {"straße": "é"}),
    ("{1: a, '1': b}", {1: "a", "1": "b"}),  # a number and a text
    ("- {a: 1}\n- {a: 2}", [{"a": 1}, {"a": 2}]),
    ("=: 1", {"=": 1}),
])
def test_a_file_becomes_plain_values(read, text, expected):
    assert read(text) == expected


def test_a_merged_key_may_be_overridden(read):
    text = "x: {base: &base {a: 1, b: 1}, more: &more {<<: *base, a: 2}}\ny: {<<: *more}"
    assert read(text)["x"]["more"] == {"a": 2, "b": 1}


@pytest.mark.parametrize(("text", "key", "line"), [
    ("a: 1\nb: 2\na: 3", "a", 3),
    ("x:\n  - y: {a: 1, a: 1}", "a", 2),
    ("x: {'a': 1, \"a\": 2}", "a", 1),
    ("1: a\n0x1: b", "0x1", 2),
    ("yes: 1\ntrue: 2", "true", 2),
    ("x: &x {a: 1}\ny: {<<: *x, b: 1, b: 2}", "b", 2),
])
def test_a_key_that_occurs_twice_is_refused_at_any_depth(read, text, key, line):
    words = f"own.yaml: '{key}' occurs twice in one mapping, again in line {line}: keep one of them$"
    with pytest.raises(ValueError, match=f"^recipe /.*{words}"):
        read(text)


@pytest.mark.parametrize(("content", "words"), [
    ("a: 1\nb: [", "not YAML (line 2: expected the node content"),
    ("a: !!python/object:os.system {}", "not YAML (line 1: could not determine a constructor"),
    ("a: \x00", "not YAML (unacceptable character"),
    ("[" * 20_000, "not YAML (RecursionError("),
    ("a: !!int ''", "not YAML (IndexError("),
    ("{a: 1}: 2", "not YAML (line 1: found unhashable key"),
    ("stra\xdfe: 1".encode("latin-1"), "not UTF-8"),
    ("a: &a [*a]", "more than 100000 values"),
])
def test_damage_is_one_line_with_the_file(read, content, words):
    line = rf"^recipe /.*own.yaml (is|has) {re.escape(words)}.*: (correct it|save it as UTF-8|write fewer)\Z"
    with pytest.raises(ValueError, match=line) as refusal:
        read(content)
    assert "\n" not in str(refusal.value)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"recipe {tmp_path} cannot be read .Is a directory.: name another file"):
        read_yaml(tmp_path, "recipe")
