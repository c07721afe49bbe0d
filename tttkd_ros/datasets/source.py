"""Sources of frames, each written as one short text.

    drives/                          a bag, or a folder with several bags
    sim:a2d2    sim:kitti:20x5       a world or a shift of the simulator; drives x sweeps
    semantickitti:/data/kitti        all drives of a data set's folder
    semantickitti:/data/kitti:00-06,08    some of them
    nuscenes:/data/nuscenes:@val.txt      those that a file lists, one a line
"""

from __future__ import annotations

from collections.abc import Sequence
from os.path import exists  # pathlib's raises OSError for a name that is too long
from pathlib import Path

from tttkd_ros.bags.bag_files import holds_bag
from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets.class_maps import ClassMap
from tttkd_ros.datasets.parts import BagPart, Part, RecordedPart, SimulatedPart
from tttkd_ros.datasets.registry import DATASETS, module
from tttkd_ros.simulation.drive import WORLDS
from tttkd_ros.simulation.seeds import training_seeds
from tttkd_ros.simulation.shifts import SHIFTS

SIMULATED = "100x10"  # drives x sweeps
SHOWN = 8  # names in an error


class MissingFolder(ValueError):
    """The folder of a data set is not there."""

    def __init__(self, text: str, kind: str, folder: Path):
        super().__init__(f"source {text!r}: no folder at {folder}: name the one where {kind} is unpacked")
        self.kind, self.folder = kind, folder


def open_source(text: str, class_set: ClassSet | None, *, purpose: str = "student", seed: int = 0) -> list[Part]:
    """Open the drives of a source, whose labels will be ids of the class set. None leaves all labels unread.

    text: see the module. A path may hold colons if it exists as written. purpose, seed: which drives are simulated, see
    `training_seeds`. Raises ValueError with the mistake and its remedy. Damage within a drive shows when it is read.
    """
    if exists(text):
        return _bags(Path(text), class_set)
    kind, colon, rest = text.partition(":")
    if colon and not rest:
        raise ValueError(f"source {text!r} ends behind the colon: expected {kind}:"
                         + ("WORLD" if kind == "sim" else "FOLDER"))
    if colon and kind == "sim":
        return _simulated(text, rest, class_set, purpose, seed)
    if colon and kind in DATASETS:
        return _recorded(text, kind, rest, class_set)
    kinds = ", ".join(f"{each}:FOLDER" for each in DATASETS)
    raise ValueError(f"no bag at {text}: expected the path of a bag or of a folder with bags, sim:WORLD, or {kinds}")


def _bags(path: Path, class_set: ClassSet | None) -> list[Part]:
    if path.is_file() or holds_bag(path):
        return [BagPart(path, class_set)]
    bags = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and holds_bag(folder)]
    if bags:
        return [BagPart(bag, class_set) for bag in bags]
    part = BagPart(path, class_set)
    len(part)  # its reader says what is wrong
    return [part]


def _simulated(text: str, rest: str, class_set: ClassSet | None, purpose: str, seed: int) -> list[Part]:
    world, colon, size = rest.partition(":")
    if world not in WORLDS and world not in SHIFTS:
        raise ValueError(f"source {text!r}: no world {world!r}, expected one of {', '.join(WORLDS)}, or a shift: "
                         f"{', '.join(SHIFTS.keys() - WORLDS.keys())}")
    drives, _, sweeps = (size if colon else SIMULATED).partition("x")
    if not all(number.isascii() and number.isdigit() and int(number) for number in (drives, sweeps)):
        raise ValueError(f"source {text!r}: {size!r} is not the number of drives and of sweeps, expected such as "
                         f"{SIMULATED}")
    shifted = world not in WORLDS
    if shifted and SHIFTS[world].middle_effects is not None and int(sweeps) < 3:
        raise ValueError(f"source {text!r}: {world} has three parts, so that a drive needs at least 3 sweeps")
    if class_set is not None and class_set.names != OUTDOOR.names:
        ClassMap.between(OUTDOOR, class_set)  # refuses a class set that does not map them
    return [SimulatedPart(world, each, int(sweeps), class_set, shifted)
            for each in training_seeds(purpose, seed, int(drives))]


def _recorded(text: str, kind: str, rest: str, class_set: ClassSet | None) -> list[Part]:
    folder, chosen = rest, None
    if not exists(rest) and ":" in rest:
        folder, _, chosen = rest.rpartition(":")
    if not Path(folder).is_dir():
        raise MissingFolder(text, kind, Path(folder))
    found = module(kind).scenes(Path(folder))
    if not found:
        if chosen is not None:
            raise ValueError(f"source {text!r}: {folder} has no scenes to choose from: leave out ':{chosen}', or name "
                             "the folder above it")
        part = RecordedPart(kind, Path(folder), None, class_set)
        _ = part.recording  # refuses a folder that is no drive either
        return [part]
    try:
        scenes = found if chosen is None else choose_scenes(chosen, found)
    except ValueError as error:
        raise ValueError(f"source {text!r}: {error}") from error
    return [RecordedPart(kind, Path(folder), scene, class_set) for scene in scenes]


def choose_scenes(chosen: str, found: Sequence[str]) -> list[str]:
    """The scenes of a list with ranges ("00-06,08"), or of a file with one a line ("@FILE"). found: all there are.

    A range of numbers has each of them. One of other names has those that are found from the first to the last. Raises
    ValueError for a scene that is not there, or twice, a range backwards, and if there is none.
    """
    if chosen.startswith("@"):
        path = Path(chosen[1:])
        if not path.is_file():
            raise ValueError(f"no file at {path}: expected a text file with one scene a line")
        items = path.read_text(encoding="utf-8", errors="replace").splitlines()
        scenes = [item.strip() for item in items if item.strip()]
    else:
        scenes = [scene for item in chosen.split(",") if item.strip() for scene in _expand(item.strip(), found)]
    if not scenes:
        raise ValueError(f"the split {chosen!r} is empty: name at least one scene, such as {found[0]}")
    for scene in scenes:
        if scene not in found:
            raise ValueError(f"there is no scene {scene!r}, only {_some(found)}")
        if scenes.count(scene) > 1:
            raise ValueError(f"scene {scene!r} is named twice: name it once")
    return scenes


def _expand(item: str, found: Sequence[str]) -> list[str]:
    """The scenes of one item of a list, whether they are there or not."""
    if item in found:
        return [item]
    ends = [(item[:at], item[at + 1 :]) for at, letter in enumerate(item) if letter == "-"]
    for first, last in ends:
        numbers = first.isascii() and first.isdigit() and last.isascii() and last.isdigit()
        if not numbers and not (first in found and last in found):
            continue
        forwards = int(first) <= int(last) if numbers else found.index(first) <= found.index(last)
        if not forwards:
            raise ValueError(f"the range {item!r} runs backwards: write {last}-{first}")
        if not numbers:
            return list(found[found.index(first) : found.index(last) + 1])
        return [f"{number:0{len(first)}}" for number in range(int(first), min(int(last), int(first) + 10**6) + 1)]
    return [item]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
