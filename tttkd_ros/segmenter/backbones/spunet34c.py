"""SpUNet, MinkUNet34C's twin on spconv: TTT-KD's indoor network. Layout and names are Pointcept's SpUNet-v1m1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tttkd_ros.segmenter.backbones.base import VoxelBackbone, check_sizes
from tttkd_ros.segmenter.injection import HEAD, STEM, Place
from tttkd_ros.segmenter.neighbours import sparse_tensor
from tttkd_ros.segmenter.sparse import (
    CONVOLUTION,
    SparseConvolution,
    SparseConvTensor,
    SparseInverseConv3d,
    StridedConv3d,
    SubMConv3d,
)
from tttkd_ros.segmenter.voxels import GRID, Voxels

KERNEL = 5  # edge of the first one, voxels


@dataclass(frozen=True)
class Options:
    """base_channels: features of the stem. channels, layers: features and residual blocks of each stage, first those
    of the encoder from fine to coarse, then those of the decoder from coarse to fine."""

    base_channels: int = 32
    channels: tuple[int, ...] = (32, 64, 128, 256, 256, 128, 96, 96)
    layers: tuple[int, ...] = (2, 3, 4, 6, 2, 2, 2, 2)

    def __post_init__(self):
        check_sizes(base_channels=self.base_channels)
        for name in ("channels", "layers"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected a whole number for each stage")
            check_sizes(**{name: getattr(self, name)})
        stages = len(self.channels)
        if len(self.layers) != stages or stages % 2 or 2 ** (stages // 2) > GRID or max(self.layers) > 64:
            raise ValueError(f"channels is {self.channels} and layers is {self.layers}, expected as many of both: an "
                             f"even number up to {2 * (GRID.bit_length() - 1)}, and at most 64 layers in a stage")


class Network(VoxelBackbone):
    """Residual U-Net.

    Each stage of the encoder has a 2x2x2 convolution of stride 2 and BasicBlocks. Each stage of the decoder has the
    inverse of that convolution, whose result is concatenated with the features of the same resolution, and BasicBlocks.
    """

    def __init__(self, options: Options, inputs: int, voxel_size: float):
        super().__init__(inputs, voxel_size)
        base, channels, layers = options.base_channels, options.channels, options.layers
        self.channels, self.stages = channels[-1], len(channels) // 2
        self.cell = 2**self.stages
        self.conv_input = _Convolution(SubMConv3d, max(inputs, 1), base, KERNEL, "stem")
        encoder = [base, *channels[: self.stages]]  # widths from fine to coarse
        decoder = [*reversed(channels[self.stages :]), encoder[-1]]
        self.down, self.enc, self.up, self.dec = (nn.ModuleList() for _ in range(4))
        for stage in range(self.stages):
            skip, coarse, fine = encoder[stage], encoder[stage + 1], decoder[stage]
            key = f"down{stage}"
            self.down.append(_Convolution(StridedConv3d, skip, coarse, 2, key, stride=2))
            self.enc.append(_blocks(coarse, coarse, layers[stage], f"level{stage + 1}"))
            self.up.append(_Convolution(SparseInverseConv3d, decoder[stage + 1], fine, 2, key))
            self.dec.append(_blocks(fine + skip, fine, layers[-1 - stage], f"level{stage}"))
        self.apply(_initialise)
        levels = {f"level{stage}": Place(stage, decoder[stage] + encoder[stage]) for stage in range(self.stages)}
        self.places = {STEM: Place(0, base), **levels, HEAD: Place(0, self.channels)}

    def forward(self, prepared: Voxels) -> Tensor:
        inject = partial(self.inject_grid, voxels=prepared)
        grid = inject(STEM, self.conv_input(sparse_tensor(prepared, self.stages + 1, KERNEL)))
        skips = []
        for down, blocks in zip(self.down, self.enc, strict=True):
            skips.append(grid.features)
            grid = blocks(down(grid))
        for up, blocks in zip(reversed(self.up), reversed(self.dec), strict=True):
            grid = up(grid)
            grid = grid.replace_feature(torch.cat([grid.features, skips.pop()], 1))
            grid = blocks(inject(f"level{len(skips)}", grid))
        return inject(HEAD, grid).features


class _Convolution(nn.Sequential):
    """Convolution, BatchNorm, ReLU."""

    def __init__(self, convolution: type[SparseConvolution], before: int, after: int, kernel: int, key: str,
                 **options: int):
        super().__init__(convolution(before, after, kernel, indice_key=key, **options, **CONVOLUTION), _norm(after),
                         nn.ReLU(inplace=True))

    def forward(self, grid: SparseConvTensor) -> SparseConvTensor:
        convolution, norm, activation = self
        grid = convolution(grid)
        return grid.replace_feature(activation(norm(grid.features)))


class _BasicBlock(nn.Module):
    """Two 3x3x3 convolutions and a residual connection, which is linear if the width changes."""

    def __init__(self, before: int, after: int, key: str):
        super().__init__()
        projection = [nn.Linear(before, after, bias=False), _norm(after)] if before != after else []
        self.proj = nn.Sequential(*projection)
        self.conv1 = SubMConv3d(before, after, 3, indice_key=key, **CONVOLUTION)
        self.bn1 = _norm(after)
        self.conv2 = SubMConv3d(after, after, 3, indice_key=key, **CONVOLUTION)
        self.bn2 = _norm(after)

    def forward(self, grid: SparseConvTensor) -> SparseConvTensor:
        residual = self.proj(grid.features)
        grid = self.conv1(grid)
        grid = self.conv2(grid.replace_feature(self.bn1(grid.features).relu_()))
        return grid.replace_feature((self.bn2(grid.features) + residual).relu_())


def _blocks(before: int, after: int, count: int, key: str) -> nn.Sequential:
    blocks = nn.Sequential()
    for number in range(count):
        blocks.add_module(f"block{number}", _BasicBlock(after if number else before, after, key))
    return blocks


def _norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)


def _initialise(module: nn.Module) -> None:
    """Draw weights as Pointcept does; the strided and inverse convolutions keep spconv's."""
    if isinstance(module, (SubMConv3d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=0.02)


def from_pointcept(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """See `tttkd_ros.segmenter.backbones`."""
    stages = _count(tensors, "down.{}.0.weight")
    modules = [("down", "enc", stage) for stage in range(stages)]
    modules += [("up", "dec", stage) for stage in reversed(range(stages))]
    base = _width(tensors, "conv_input.0.weight")
    channels = tuple(_width(tensors, f"{convolution}.{stage}.0.weight") for convolution, _, stage in modules)
    layers = tuple(_count(tensors, f"{blocks}.{stage}.block{{}}.conv1.weight") for _, blocks, stage in modules)
    if not (base and stages and all(channels) and all(layers)):
        raise ValueError("no weights of a SpUNet with a decoder (conv_input, down, enc, up, dec)")
    own = {}
    for name, tensor in tensors.items():
        if name.startswith("final."):
            name = name.replace("final", "class_head")
        if tensor.ndim == 5 and tensor.shape[1:4] == (1, 1, 1):
            # spconv keeps a 1x1x1 kernel in the shape (out, 1, 1, 1, in), but multiplies by its numbers as (in, out).
            tensor = tensor.reshape(tensor.shape[4], tensor.shape[0]).T
        own[name] = tensor
    return {"base_channels": base, "channels": channels, "layers": layers}, own


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """Return how many of the names that a pattern gives for 0, 1, ... there are."""
    count = 0
    while pattern.format(count) in tensors:
        count += 1
    return count


def _width(tensors: Mapping[str, Tensor], name: str) -> int:
    """Return the features that a convolution gives; 0 if there is none of this name."""
    return tensors[name].shape[0] if name in tensors and tensors[name].ndim else 0
