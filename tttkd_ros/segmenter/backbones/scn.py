"""The sparse U-Net of TTT-KD's outdoor table: xMUDA's SCN UNet, on spconv."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tttkd_ros.segmenter.backbones.base import VoxelBackbone, check_sizes
from tttkd_ros.segmenter.injection import HEAD, STEM, Place
from tttkd_ros.segmenter.neighbours import sparse_tensor
from tttkd_ros.segmenter.sparse import CONVOLUTION, SparseConvTensor, SparseInverseConv3d, StridedConv3d, SubMConv3d
from tttkd_ros.segmenter.voxels import GRID, Voxels

Inject = Callable[[str, SparseConvTensor], SparseConvTensor]


@dataclass(frozen=True)
class Options:
    """channels: features of the first level; level n has (n + 1) times as many. repetitions: 3x3x3 convolutions per
    level, on the way down and on the way up."""

    channels: int = 16
    levels: int = 7
    repetitions: int = 1

    def __post_init__(self):
        check_sizes(channels=self.channels, levels=self.levels, repetitions=self.repetitions)
        if 2 ** (self.levels - 1) > GRID or self.repetitions > 64:
            raise ValueError(f"levels is {self.levels} and repetitions is {self.repetitions}, expected at most "
                             f"{GRID.bit_length()} and 64")


class Network(VoxelBackbone):
    """Pre-activation U-Net.

    Each level has 3x3x3 convolutions, a 2x2x2 convolution of stride 2 down, and its inverse up, concatenated with the
    skip connection. Without inputs, geometry enters through the voxel grid alone.
    """

    def __init__(self, options: Options, inputs: int, voxel_size: float):
        super().__init__(inputs, voxel_size)
        self.channels, self.levels, self.cell = options.channels, options.levels, 2 ** (options.levels - 1)
        self.stem = SubMConv3d(max(inputs, 1), options.channels, 3, indice_key="level0", **CONVOLUTION)
        self.body = _Level([options.channels * (1 + level) for level in range(options.levels)], options.repetitions)
        self.activation = _activation(options.channels)
        width = options.channels
        levels = {f"level{level}": Place(level, 2 * width * (1 + level)) for level in range(options.levels - 1)}
        self.places = {STEM: Place(0, width), **levels, HEAD: Place(0, width)}

    def forward(self, prepared: Voxels) -> Tensor:
        inject = partial(self.inject_grid, voxels=prepared)
        grid = inject(STEM, self.stem(sparse_tensor(prepared, self.levels)))
        return self.inject(HEAD, self.activation(self.body(grid, inject).features), prepared.images)


class _Level(nn.Module):
    """One level and all deeper ones inside it."""

    def __init__(self, planes: list[int], repetitions: int, level: int = 0):
        super().__init__()
        width = planes[0]
        subm, down = f"level{level}", f"down{level}"
        self.place = subm
        self.encoder = nn.ModuleList(_Block(SubMConv3d, width, width, 3, subm) for _ in range(repetitions))
        self.deeper = len(planes) > 1
        if self.deeper:
            self.down = _Block(StridedConv3d, width, planes[1], 2, down, stride=2)
            self.below = _Level(planes[1:], repetitions, level + 1)
            self.up = _Block(SparseInverseConv3d, planes[1], width, 2, down)
            widths = [2 * width] + [width] * (repetitions - 1)
            self.decoder = nn.ModuleList(_Block(SubMConv3d, before, width, 3, subm) for before in widths)

    def forward(self, grid: SparseConvTensor, inject: Inject) -> SparseConvTensor:
        for block in self.encoder:
            grid = block(grid)
        if not self.deeper:
            return grid
        upsampled = self.up(self.below(self.down(grid), inject))
        grid = inject(self.place, grid.replace_feature(torch.cat([grid.features, upsampled.features], 1)))
        for block in self.decoder:
            grid = block(grid)
        return grid


class _Block(nn.Module):
    """BatchNorm, ReLU, convolution."""

    def __init__(self, convolution: type[nn.Module], before: int, after: int, kernel: int, key: str, **options: int):
        super().__init__()
        self.activation = _activation(before)
        self.convolution = convolution(before, after, kernel, indice_key=key, **options, **CONVOLUTION)

    def forward(self, grid: SparseConvTensor) -> SparseConvTensor:
        return self.convolution(grid.replace_feature(self.activation(grid.features)))


def _activation(width: int) -> nn.Sequential:
    """BatchNorm with SCN's constants, and ReLU."""
    return nn.Sequential(nn.BatchNorm1d(width, eps=1e-4, momentum=0.1), nn.ReLU(inplace=True))
