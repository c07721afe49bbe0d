"""DITR: a teacher's image features are added to those of a backbone (arXiv 2503.18944, section 3.1 and table 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from tttkd_ros.segmenter.image_features import ImageGrid

INPUT, DECODER, LAST, OUTPUT = INJECTIONS = ("input", "decoder", "last", "output")
STEM, FINEST, HEAD = "stem", "level0", "output"  # names of places that every backbone with injection has


class Place(NamedTuple):
    """Where a backbone can take image features. halvings: of the grid there. width: of its features."""

    halvings: int
    width: int


class Injection(nn.ModuleDict):
    """Linear + BatchNorm + GELU of the image features, for each place.

    Args:
        kind: "decoder" for every level on the way up, as the paper proposes. Its other choices: "input" for the stem,
            "last" for the finest level on the way up, "output" for the backbone's result.
        dim: width of the image features.
        places: all of a backbone, by name: `STEM`, "level0" for the finest level on the way up, "level1", ..., `HEAD`.
    """

    def __init__(self, kind: str, dim: int, places: Mapping[str, Place]):
        levels = [name for name in places if name not in (STEM, HEAD)]
        chosen = {INPUT: [STEM], DECODER: levels, LAST: [FINEST], OUTPUT: [HEAD]}[kind]
        super().__init__({name: _projection(dim, places[name].width) for name in chosen})
        self._halvings = {name: places[name].halvings for name in chosen}

    @property
    def halvings(self) -> list[int]:
        """Return those of the grid whose image features are needed, ascending."""
        return sorted(set(self._halvings.values()))

    def project(self, place: str, images: ImageGrid, indices: Tensor | None = None) -> Tensor:
        """Return what is added to the features of a place.

        indices: (V, 4), [batch, x, y, z], the cells of the place in their order; None if they are sorted.
        """
        level = images[self._halvings[place]]
        row = level.row if indices is None else level.rows_of(indices)
        linear, norm, activation = self[place]
        if self.training:  # the statistics are those of the cells
            return activation(norm(linear(level.table)[row]))
        return activation(norm(linear(level.table)))[row]


def _projection(dim: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, width), nn.BatchNorm1d(width, eps=1e-3, momentum=0.01), nn.GELU())
