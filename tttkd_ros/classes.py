"""Class sets: names and colours of the class ids, and which classes of data sets and of other sets they stand for.

    name: street3
    classes:                          # in the order of their ids, from 0
      vehicle: {colour: [0, 110, 255], from: {semantickitti: [car, truck], outdoor10: [car, truck]}}
      ground: {colour: [150, 90, 150], from: {semantickitti: [road], outdoor10: [road, sidewalk]}}
      sign: {colour: [255, 0, 0]}     # without `from`: labelled in this set alone
    ignored: {semantickitti: [unlabeled, outlier]}   # become unlabelled
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short

import numpy as np

from tttkd_ros.yaml_files import read_yaml

UNLABELLED = 255  # no class; losses and metrics ignore it
BUILT_IN = Path(__file__).with_name("class_sets")


@dataclass(frozen=True)
class ClassSet:
    """Names in id order, an RGB colour (0..255) for each, and the classes of data sets and other sets by section.

    groups: section -> its class -> the class of this set. ignored: section -> its classes that become unlabelled.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    groups: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ignored: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def parse(cls, content: object) -> ClassSet:
        """Make the class set of a file's content. Raises ValueError with the first problem."""
        content = _mapping(content, "the file", {"name", "classes", "ignored"})
        name, classes = _text(content.get("name"), "name"), _mapping(content.get("classes"), "classes")
        if not 0 < len(classes) <= UNLABELLED:
            raise ValueError(f"it has {len(classes)} classes, expected 1 to {UNLABELLED}")
        colours, groups = [], {}
        for own, entry in classes.items():
            entry = _mapping(entry, f"class {short(_text(own, 'a class'))}", {"colour", "from"})
            colours.append(_colour(entry.get("colour"), own))
            for section, members in _sections(entry.get("from", {}), f"'from' of class {own!r}"):
                group = groups.setdefault(section, {})
                for member in members:
                    if member in group:
                        raise ValueError(f"{section}'s {member!r} is in {group[member]!r} and again in {own!r}: list "
                                         "it once")
                    group[member] = own
        ignored = dict(_sections(content.get("ignored", {}), "'ignored'"))
        for section, members in ignored.items():
            for member in members:
                if members.count(member) > 1 or member in groups.get(section, {}):
                    raise ValueError(f"{section}'s {member!r} is ignored and listed once more: list it once")
        return cls(name, tuple(classes), tuple(colours), groups, ignored)

    @property
    def content(self) -> dict:
        """What `parse` makes this set of: plain values, as in a file."""
        classes = {}
        for own, colour in zip(self.names, self.colours, strict=True):
            members = {section: [member for member, name in group.items() if name == own]
                       for section, group in self.groups.items()}
            classes[own] = {"colour": list(colour), "from": {section: found for section, found in members.items()
                                                             if found}}
        ignored = {section: list(members) for section, members in self.ignored.items()}
        return {"name": self.name, "classes": classes, "ignored": ignored}

    @classmethod
    def of_label_info(cls, text: str) -> ClassSet:
        """Read a `label_info`. Raises ValueError if it is something else."""
        try:
            info = json.loads(text)
            entries = sorted(info["classes"], key=lambda entry: entry["id"])
            if [entry["id"] for entry in entries] != list(range(len({entry["name"] for entry in entries}))):
                raise ValueError("the ids are not 0, 1, ... with a name each")
            classes = {entry["name"]: {"colour": entry["colour"]} for entry in entries}
            return cls.parse({"name": info["class_set"], "classes": classes})
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{short(text)} does not describe a class set ({error!r})") from error

    @property
    def label_info(self) -> str:
        """JSON with every label's id, name and colour, as the node and a bag publish it.

        Not vision_msgs/LabelInfo: that has no colour, and a topic's type must not depend on what is installed.
        """
        entries = [{"id": number, "name": name, "colour": list(colour)}
                   for number, (name, colour) in enumerate(zip(self.names, self.colours, strict=True))]
        return json.dumps({"class_set": self.name, "unlabelled": UNLABELLED, "classes": entries})

    def __str__(self) -> str:
        return f"class set {self.name!r} ({', '.join(self.names)})"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """(256, 3) uint8 colours of all labels. Ids without a class, including `UNLABELLED`, are dark grey."""
        palette = np.full((256, 3), 40, np.uint8)
        palette[: len(self)] = self.colours
        return palette


def built_in_class_sets() -> list[str]:
    """The names of the class sets that ship with this package."""
    return sorted(path.stem for path in BUILT_IN.glob("*.yaml"))


def load_class_set(name_or_path: str | Path) -> ClassSet:
    """Load a built-in class set by its name, or one of a YAML file. Raises ValueError with the file and the problem."""
    built_in = str(name_or_path) in built_in_class_sets()
    path = BUILT_IN / f"{name_or_path}.yaml" if built_in else Path(name_or_path).expanduser()
    if not path.is_file():
        raise ValueError(f"class set {str(name_or_path)!r} is neither a file nor one of "
                         f"{', '.join(built_in_class_sets())}")
    content = read_yaml(path, "class set")
    try:
        return ClassSet.parse(content)
    except ValueError as error:
        raise ValueError(f"class set {path}: {error}") from error


def _mapping(value: object, what: str, keys: set[str] | None = None) -> dict:
    """Check a mapping, and that it has no other than these keys."""
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {short(value)}, expected a mapping")
    unknown = [key for key in value if keys is not None and key not in keys]
    if unknown:
        raise ValueError(f"{what} has the unknown key {short(unknown[0])}, expected {', '.join(sorted(keys))}")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{what} is {short(value)}, expected a name on one line (quote it if YAML reads it as a "
                         "number or yes or no)")
    return value


def _colour(value: object, own: str) -> tuple[int, int, int]:
    if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(
        type(part) is int and 0 <= part <= 255 for part in value
    ):
        raise ValueError(f"the colour of class {own!r} is {short(value)}, expected red, green and blue from 0 to 255")
    return tuple(value)


def _sections(value: object, what: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield a data set or class set, and its classes that are listed."""
    for section, members in _mapping(value, what).items():
        if not isinstance(members, (list, tuple)):
            raise ValueError(f"{what} has {short(members)} for {short(section)}, expected a list of its classes")
        where = f"{what}, {_text(section, 'a data set')}"
        yield section, tuple(_text(member, f"a class in {where}") for member in members)


OUTDOOR = load_class_set("outdoor10")
