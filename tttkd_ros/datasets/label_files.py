"""Folders of .label files as the truth of a bag."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tttkd_ros.classes import ClassSet
from tttkd_ros.datasets.class_maps import SEMANTIC_KITTI_IDS, ClassMap
from tttkd_ros.datasets.labels import NAMES, named_class_map
from tttkd_ros.datasets.recording import numbered_files
from tttkd_ros.datasets.semantickitti import SECTION as SEMANTIC_KITTI
from tttkd_ros.datasets.semantickitti import read_classes
from tttkd_ros.frame import Frame, truth_of_returns

MIN_STAMP = 10**15  # file names from here on are stamps in nanoseconds: 10**15 is in January 1970


class LabelFiles:
    """The truth of a drive's sweeps in a folder of .label files, as ids of a class set.

    The file classes.yaml beside the folder names the classes by id. Without it, the ids are SemanticKITTI's. Raises
    ValueError if the number of files does not fit, or the class set does not cover these classes.

    Files that are named for nanoseconds (<stamp>.label) belong to the sweeps of these stamps, and sweeps without one
    have no truth. Otherwise there must be a file for each of the sweeps, in order. complete: False for a drive that is
    cut short, which may have more files.
    """

    def __init__(self, folder: Path, sweeps: int, class_set: ClassSet, *, complete: bool = True):
        self._folder = folder
        names = folder.absolute().parent / NAMES
        self._class_map = (named_class_map(names, class_set) if names.is_file()
                           else ClassMap(SEMANTIC_KITTI_IDS, SEMANTIC_KITTI, class_set))
        files = numbered_files(folder, ".label")
        if not files:
            raise ValueError(f"{folder} holds no labels: expected files such as 000000.label")
        self._by_stamp, count = files[0][0] >= MIN_STAMP, len(files)
        self._files = dict(files) if self._by_stamp else dict(enumerate(path for _, path in files))
        if not self._by_stamp and (count < sweeps or complete and count != sweeps):
            raise ValueError(f"{folder} holds labels of {count} sweeps, but the bag has {sweeps}: give those of this "
                             "drive, or name each file for its sweep's stamp in nanoseconds (<stamp>.label)")

    def truth(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Replace the labels of a drive's frames, from the first one on, with those of the files."""
        any_found = False
        for index, frame in enumerate(frames):
            path = self._files.get(frame.stamp if self._by_stamp else index)
            any_found = any_found or path is not None
            if path is None:
                yield replace(frame, labels=None)
                continue
            labels = read_classes(path, len(frame.points), self._class_map)
            yield replace(frame, labels=truth_of_returns(labels, frame.points))
        if not any_found:
            raise ValueError(f"no file in {self._folder} is named for the stamp of a sweep: expected nanoseconds")
