"""Folders of labelled clouds as SynLiDAR's, without calibration and images.

<sequence>/velodyne/<n>.bin (x, y, z, intensity as float32) and <sequence>/labels/<n>.label (uint32, whose lower half is
the class). classes.yaml, in the sequence or above it, has the classes' names by id (`1: car`). A class set maps them in
its section "labels"; without one, they are the set's own names, and "unlabelled". `tttkd export` writes such folders.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tttkd_ros.classes import OUTDOOR, ClassSet
from tttkd_ros.datasets import recording
from tttkd_ros.datasets.class_maps import ClassMap
from tttkd_ros.datasets.kitti import PERIOD, START, KittiRecording
from tttkd_ros.datasets.recording import log
from tttkd_ros.datasets.semantickitti import read_classes
from tttkd_ros.yaml_files import read_yaml

SECTION, NAMES = "labels", "classes.yaml"
EXPECTED = "folders with velodyne/000000.bin"
EXAMPLE = "expected lines such as '1: car'"


def scenes(folder: Path) -> list[str]:
    """The sequences in the folder; none if it is one itself."""
    return [] if (folder / "velodyne").is_dir() else sorted(_sequences(folder))


def open_recording(folder: Path, scene: str | None = None, class_set: ClassSet | None = OUTDOOR) -> KittiRecording:
    """Open a sequence: the folder itself, or the one called `scene` in it. Without a folder labels it has no truth.

    The stamps count the files at 10 Hz. Raises ValueError if there is no sequence, or its files are something else, or
    the class set does not cover classes.yaml.
    """
    if scene is not None or not (folder / "velodyne").is_dir():
        folder = recording.choose_drive(folder, scene, _sequences(folder), "sequence", EXPECTED)
    sweeps = recording.numbered_files(folder / "velodyne", ".bin")
    if not sweeps:
        raise ValueError(f"{folder}/velodyne holds no sweeps: expected files such as 000000.bin")
    names = next((path for path in (folder / NAMES, folder.parent / NAMES) if path.is_file()), folder.parent / NAMES)
    first = sweeps[0][1].stem
    inputs = {"files": recording.file_digests(folder, [names, sweeps[0][1], folder / "labels" / f"{first}.label"])}
    stamps = {number: START + number * PERIOD for number, _ in sweeps}
    if class_set is None or not (folder / "labels").is_dir():
        if class_set is not None:
            log.warning("%s has no folder labels: there is no truth", folder)
        return KittiRecording(sweeps, None, stamps, stamps, {}, inputs)
    class_map, stems = named_class_map(names, class_set), {number: path.stem for number, path in sweeps}

    def labels(number: int, size: int) -> np.ndarray:
        return read_classes(folder / "labels" / f"{stems[number]}.label", size, class_map)

    return KittiRecording(sweeps, None, stamps, stamps, {}, inputs, labels=labels, class_set=class_set)


def _sequences(folder: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in folder.glob("*/velodyne")}


def named_class_map(path: Path, class_set: ClassSet) -> ClassMap:
    """Make the map from the ids of a classes.yaml. Raises ValueError if it is damaged, or the class set does not cover
    its names."""
    if not path.is_file():
        raise ValueError(f"{path} is missing: it names the classes of the labels by id, {EXAMPLE}")
    names = read_yaml(path, "class names")
    if not isinstance(names, dict) or not names:
        raise ValueError(f"{path} names no classes: {EXAMPLE}")
    for key, name in names.items():
        if type(key) is not int or not 0 <= key < 2**16 or not isinstance(name, str):
            raise ValueError(f"{path} has the line {key!r}: {name!r}; {EXAMPLE}, ids from 0 to {2**16 - 1}")
    if SECTION not in class_set.groups:
        own = {name: name for name in class_set.names}
        class_set = ClassSet(class_set.name, class_set.names, class_set.colours, {SECTION: own},
                             {SECTION: ("unlabelled",)})
    try:
        return ClassMap(names, SECTION, class_set)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
