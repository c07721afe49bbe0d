"""Class sets: names and colours of the class ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNLABELLED = 255  # no class; losses and metrics ignore it


@dataclass(frozen=True)
class ClassSet:
    """Names in id order, and an RGB colour (0..255) for each."""

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def palette(self) -> np.ndarray:
        """(256, 3) uint8 colours of all labels. Ids without a class, including `UNLABELLED`, are dark grey."""
        palette = np.full((256, 3), 40, np.uint8)
        palette[: len(self)] = self.colours
        return palette


# The ten classes that A2D2 and SemanticKITTI share (TTT-KD, outdoor experiments; the mapping is xMUDA's).
OUTDOOR = ClassSet(
    "outdoor10",
    ("car", "truck", "bike", "person", "road", "parking", "sidewalk", "building", "nature", "other-objects"),
    ((0, 110, 255), (120, 40, 200), (0, 220, 220), (255, 40, 40), (150, 90, 150), (255, 150, 255), (220, 30, 200),
     (255, 200, 0), (40, 170, 60), (255, 120, 40)),
)

CLASS_SETS = {OUTDOOR.name: OUTDOOR}
