"""The sparse U-Net of TTT-KD's outdoor table: xMUDA's SCN UNet, on spconv."""

from __future__ import annotations

import logging
import warnings

import torch
from torch import Tensor, nn

from tttkd_ros.segmenter.voxels import Voxels

with warnings.catch_warnings():  # spconv 2.3 decorates its functions in a way that torch has deprecated
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.cuda.amp.custom")
    from spconv.core import ConvAlgo
    from spconv.pytorch import SparseConv3d, SparseConvTensor, SparseInverseConv3d, SubMConv3d, functional

    from tttkd_ros.segmenter.neighbours import index_pairs

# spconv calls a renamed torch function, which torch warns of.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

# Only the native algorithm runs on a CPU too. No convolution has a bias, because spconv's CPU kernels compute it
# wrongly in eval mode (spconv issue 719).
_CONVOLUTION = {"bias": False, "algo": ConvAlgo.Native}


class SparseUNet(nn.Module):
    """Pre-activation U-Net.

    Each level has 3x3x3 convolutions, a 2x2x2 convolution of stride 2 down, and its inverse up, concatenated with the
    skip connection. The only input feature is the constant 1: geometry enters through the voxel grid alone.

    channels: features of the first level; level n has (n + 1) times as many. repetitions: 3x3x3 convolutions per level,
    on the way down and on the way up.
    """

    def __init__(self, channels: int, levels: int, repetitions: int):
        super().__init__()
        self.levels = levels
        self.stem = SubMConv3d(1, channels, 3, indice_key="level0", **_CONVOLUTION)
        self.body = _Level([channels * (1 + level) for level in range(levels)], repetitions)
        self.activation = _activation(channels)

    def forward(self, voxels: Voxels) -> Tensor:
        """Compute features (V, channels) of voxels; V must be at least 1."""
        ones = torch.ones(len(voxels.indices), 1, device=voxels.indices.device)
        grid = SparseConvTensor(ones, voxels.indices, voxels.spatial_shape, voxels.batch_size)
        if not ones.is_cuda:
            if not voxels.pairs:
                voxels.pairs.update(index_pairs(voxels, self.levels))
            grid.indice_dict = dict(voxels.pairs)
        return self.activation(self.body(self.stem(grid)).features)


class _Level(nn.Module):
    """One level and all deeper ones inside it."""

    def __init__(self, planes: list[int], repetitions: int, level: int = 0):
        super().__init__()
        width = planes[0]
        subm, down = f"level{level}", f"down{level}"
        self.encoder = nn.ModuleList(_Block(SubMConv3d, width, width, 3, subm) for _ in range(repetitions))
        self.deeper = len(planes) > 1
        if self.deeper:
            self.down = _Block(_Downward, width, planes[1], 2, down, stride=2)
            self.below = _Level(planes[1:], repetitions, level + 1)
            self.up = _Block(SparseInverseConv3d, planes[1], width, 2, down)
            widths = [2 * width] + [width] * (repetitions - 1)
            self.decoder = nn.ModuleList(_Block(SubMConv3d, before, width, 3, subm) for before in widths)

    def forward(self, grid: SparseConvTensor) -> SparseConvTensor:
        for block in self.encoder:
            grid = block(grid)
        if not self.deeper:
            return grid
        upsampled = self.up(self.below(self.down(grid)))
        grid = grid.replace_feature(torch.cat([grid.features, upsampled.features], 1))
        for block in self.decoder:
            grid = block(grid)
        return grid


class _Block(nn.Module):
    """BatchNorm, ReLU, convolution."""

    def __init__(self, convolution: type[nn.Module], before: int, after: int, kernel: int, key: str, **options: int):
        super().__init__()
        self.activation = _activation(before)
        self.convolution = convolution(before, after, kernel, indice_key=key, **options, **_CONVOLUTION)

    def forward(self, grid: SparseConvTensor) -> SparseConvTensor:
        return self.convolution(grid.replace_feature(self.activation(grid.features)))


class _Downward(SparseConv3d):
    """A strided convolution that uses prepared pairs; spconv's own always builds them."""

    def forward(self, grid: SparseConvTensor) -> SparseConvTensor:
        pairs = grid.find_indice_pair(self.indice_key)
        if pairs is None:
            return super().forward(grid)
        features = functional.indice_conv(
            grid.features, self.weight, pairs.indice_pairs, pairs.indice_pair_num, len(pairs.out_indices), self.algo
        )
        coarse = grid.replace_feature(features)
        coarse.indices, coarse.spatial_shape = pairs.out_indices, pairs.out_spatial_shape
        return coarse


def _activation(width: int) -> nn.Sequential:
    """BatchNorm with SCN's constants, and ReLU."""
    return nn.Sequential(nn.BatchNorm1d(width, eps=1e-4, momentum=0.1), nn.ReLU(inplace=True))
