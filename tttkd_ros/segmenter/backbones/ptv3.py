"""Point Transformer V3 (arXiv 2312.10035): attention among voxels that are neighbours along space-filling curves.

The network is Pointcept's PT-v3m1 without relative position encoding, and its parameters have the names of that. Unlike
there, no random order is used outside of training, and no cloud of a batch changes another's result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional

from tttkd_ros.segmenter.backbones.base import Backbone, check_sizes
from tttkd_ros.segmenter.curves import ORDERS
from tttkd_ros.segmenter.image_features import ImageFeatures, ImageGrid
from tttkd_ros.segmenter.injection import HEAD, STEM, Place
from tttkd_ros.segmenter.serialisation import Level, Patches, serialise, submanifold_pairs
from tttkd_ros.segmenter.sparse import CONVOLUTION, SubMConv3d
from tttkd_ros.segmenter.sparse import functional as sparse_functional
from tttkd_ros.segmenter.voxels import GRID, Voxels, coarse_cells, voxelise

HEAD_WIDTH = 16  # channels of an attention head in every published configuration
MAX_BLOCKS = 64  # of a level, on either way


@dataclass(frozen=True)
class Options:
    """The defaults are the published network for outdoor scenes, for a GPU. A CPU wants fewer and patches of 128.

    channels, depths, heads: width of the features, blocks, and attention heads of each level on the way down.
    decoder_channels, decoder_depths, decoder_heads: those of each level but the coarsest on the way up, finest first.
    strides: from each level to the next, powers of two.
    patch_size: voxels that attend to each other at most.
    mlp_ratio: width of the hidden layer of each block's MLP, in widths of the block.
    drop_path: probability in training that a voxel skips a branch of the last block; it rises from 0 at the first.
    """

    channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    depths: tuple[int, ...] = (2, 2, 2, 6, 2)
    heads: tuple[int, ...] = (2, 4, 8, 16, 32)
    decoder_channels: tuple[int, ...] = (64, 64, 128, 256)
    decoder_depths: tuple[int, ...] = (2, 2, 2, 2)
    decoder_heads: tuple[int, ...] = (4, 4, 8, 16)
    strides: tuple[int, ...] = (2, 2, 2, 2)
    patch_size: int = 1024
    mlp_ratio: int = 4
    drop_path: float = 0.3

    def __post_init__(self):
        down = {name: getattr(self, name) for name in ("channels", "depths", "heads")}
        up = {name: getattr(self, name) for name in ("decoder_channels", "decoder_depths", "decoder_heads", "strides")}
        check_sizes(patch_size=self.patch_size, mlp_ratio=self.mlp_ratio, **down, **up)
        levels = len(self.channels) if isinstance(self.channels, tuple) else 0
        for name, sizes in (down | up).items():
            expected = levels if name in down else levels - 1
            if not isinstance(sizes, tuple) or len(sizes) != expected:
                raise ValueError(f"{name} is {sizes!r}, expected {max(expected, 1)} numbers for channels "
                                 f"{self.channels!r}")
        if max(self.depths + self.decoder_depths) > MAX_BLOCKS:
            raise ValueError(f"depths is {self.depths} and decoder_depths is {self.decoder_depths}, expected at most "
                             f"{MAX_BLOCKS} each")
        for name, widths, heads in (("heads", self.channels, self.heads),
                                    ("decoder_heads", self.decoder_channels, self.decoder_heads)):
            if any(width % number for width, number in zip(widths, heads, strict=True)):
                raise ValueError(f"{name} is {heads}, expected divisors of the channels {widths}")
        if any(stride & (stride - 1) or stride == 1 for stride in self.strides) or math.prod(self.strides) > GRID:
            raise ValueError(f"strides is {self.strides}, expected powers of two from 2 on with a product of at most "
                             f"{GRID}")
        if type(self.drop_path) not in (int, float) or not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path is {self.drop_path!r}, expected a number from 0 to below 1")


@dataclass(frozen=True, eq=False)
class Prepared:
    """The voxels of a batch, and all that a pass needs of their geometry.

    stem: pairs of the 5x5x5 convolution. levels: finest first; none without voxels. images: see `Backbone.image_grid`.
    """

    voxels: Voxels
    stem: tuple[Tensor, Tensor] | None
    levels: list[Level]
    images: ImageGrid | None = None

    @property
    def row(self) -> Tensor:
        return self.voxels.row

    def __len__(self) -> int:
        return len(self.voxels)


class Network(Backbone):
    """A 5x5x5 convolution, then blocks of attention on each level on the way down and up.

    Without inputs, geometry enters through the convolutions and the orders alone.
    """

    def __init__(self, options: Options, inputs: int, voxel_size: float):
        super().__init__(inputs, voxel_size)
        self.channels, self.cell = options.decoder_channels[0], math.prod(options.strides)
        self.patch_size, self.halvings = options.patch_size, [stride.bit_length() - 1 for stride in options.strides]
        widths, up = options.channels, (*options.decoder_channels, options.channels[-1])
        stem = {"conv": _Convolution(max(inputs, 1), widths[0], 5, bias=False), "norm": _batch_norm(widths[0])}
        self.embedding = nn.ModuleDict({"stem": nn.ModuleDict(stem)})
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        drops = _drop_paths(options.drop_path, options.depths)
        for level, (width, heads) in enumerate(zip(widths, options.heads, strict=True)):
            down = {"down": _Pooling(widths[level - 1], width)} if level else {}
            self.enc[f"enc{level}"] = _stage(down, width, heads, options.mlp_ratio, drops[level])
        drops = _drop_paths(options.drop_path, options.decoder_depths)
        for level in reversed(range(len(options.strides))):
            width = up[level]
            unpooling = {"up": _Unpooling(up[level + 1], widths[level], width)}
            self.dec[f"dec{level}"] = _stage(unpooling, width, options.decoder_heads[level], options.mlp_ratio,
                                             drops[level][::-1])
        levels = {f"level{level}": Place(sum(self.halvings[:level]), width)
                  for level, width in enumerate(options.decoder_channels)}
        self.places = {STEM: Place(0, widths[0]), **levels, HEAD: Place(0, self.channels)}

    def prepare(self, clouds: Sequence[Tensor], inputs: Sequence[Tensor] | None = None,
                offsets: Sequence[Tensor] | None = None, images: ImageFeatures | None = None) -> Prepared:
        voxels = voxelise(clouds, self.voxel_size, self.cell, offsets, inputs)
        if not len(voxels):
            return Prepared(voxels, None, [])
        return Prepared(voxels, submanifold_pairs(voxels, 5), serialise(voxels, self.halvings, self.patch_size),
                        self.image_grid(images, voxels))

    def forward(self, prepared: Prepared) -> Tensor:
        levels = prepared.levels
        # The source draws the orders of each level in evaluation, too.
        orders = [torch.randperm(ORDERS).tolist() if self.training else list(range(ORDERS)) for _ in levels]
        stem, skipped = self.embedding["stem"], []
        features = functional.gelu(stem["norm"](stem["conv"](prepared.voxels.features(), prepared.stem)))
        features = self.inject(STEM, features, prepared.images)
        for number, level in enumerate(levels):
            stage = self.enc[f"enc{number}"]
            if number:
                skipped.append(features)
                features = stage["down"](features, levels[number - 1].parent, len(level))
            features = _run(stage, features, features, level, orders[number])
        for number in reversed(range(len(skipped))):
            stage = self.dec[f"dec{number}"]
            skip, features = stage["up"](skipped[number], features, levels[number].parent)
            features = self.inject(f"level{number}", features, prepared.images)
            features = _run(stage, features, skip, levels[number], orders[number])
        return self.inject(HEAD, features, prepared.images)

    def coarse_cells(self, prepared: Prepared) -> int:
        return coarse_cells(prepared.voxels, sum(self.halvings))


def _stage(entrance: dict[str, nn.Module], width: int, heads: int, mlp_ratio: int, drops: list[float]) -> nn.ModuleDict:
    blocks = {f"block{number}": _Block(width, heads, mlp_ratio * width, drop) for number, drop in enumerate(drops)}
    return nn.ModuleDict(entrance | blocks)


def _run(stage: nn.ModuleDict, features: Tensor, local: Tensor, level: Level, orders: list[int]) -> Tensor:
    """Run the blocks of a stage. local: what the first block's convolution sees instead of the features.

    In the source that is the skip connection without the upsampled features. The published weights rely on it.
    """
    blocks = [block for block in stage.values() if isinstance(block, _Block)]
    for number, block in enumerate(blocks):
        features = local = block(features, local, level.pairs, level.patches[orders[number % ORDERS]])
    return features


class _Block(nn.Module):
    """A convolution that encodes positions, attention, and an MLP, each beside a residual connection."""

    def __init__(self, width: int, heads: int, hidden: int, drop: float):
        super().__init__()
        self.drop = drop
        self.cpe = nn.ModuleList([_Convolution(width, width, 3, bias=True), nn.Linear(width, width),
                                  nn.LayerNorm(width)])
        self.norm1 = nn.Sequential(nn.LayerNorm(width))
        self.attn = _Attention(width, heads)
        self.norm2 = nn.Sequential(nn.LayerNorm(width))
        self.mlp = nn.ModuleList([nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})])

    def forward(self, features: Tensor, local: Tensor, pairs: tuple[Tensor, Tensor], patches: Patches) -> Tensor:
        convolution, linear, norm = self.cpe
        features = features + norm(linear(convolution(local, pairs)))
        features = features + self._dropped(self.attn(self.norm1(features), patches))
        mlp = self.mlp[0]
        return features + self._dropped(mlp["fc2"](functional.gelu(mlp["fc1"](self.norm2(features)))))

    def _dropped(self, branch: Tensor) -> Tensor:
        """Leave the branch out for random rows, in training only (drop path)."""
        if not self.training or not self.drop:
            return branch
        return branch * branch.new_empty(len(branch), 1).bernoulli_(1 - self.drop).div_(1 - self.drop)


class _Attention(nn.Module):
    """Multi-head attention among the voxels of each patch."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, features: Tensor, patches: Patches) -> Tensor:
        # No row occurs more than twice, so the sum of its gradients does not depend on their order.
        rows = self.qkv(features)[patches.rows]
        parts = rows.split([number * length for number, length in patches.shapes])
        attended = []
        for part, (number, length) in zip(parts, patches.shapes, strict=True):
            query, key, value = part.view(number, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
            heads = functional.scaled_dot_product_attention(query, key, value)  # (number, heads, length, width / heads)
            attended.append(heads.transpose(1, 2).reshape(number * length, -1))
        return self.proj(torch.cat(attended)[patches.place])


class _Pooling(nn.Module):
    """The maximum over the voxels of each cell of the next level."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.proj, self.norm = nn.Linear(before, after), nn.Sequential(_batch_norm(after))

    def forward(self, features: Tensor, parent: Tensor, cells: int) -> Tensor:
        features = self.proj(features)
        pooled = features.new_zeros(cells, features.shape[1]).scatter_reduce(
            0, parent[:, None].expand_as(features), features, "amax", include_self=False
        )
        return functional.gelu(self.norm(pooled))


class _Unpooling(nn.Module):
    """Features of the level below, added to those of the skip connection."""

    def __init__(self, below: int, beside: int, after: int):
        super().__init__()
        self.proj, self.proj_skip = (nn.Sequential(nn.Linear(before, after), _batch_norm(after), nn.GELU())
                                     for before in (below, beside))

    def forward(self, skip: Tensor, coarse: Tensor, parent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the projected skip connection, and its sum with the upsampled features."""
        skip, coarse = self.proj_skip(skip), self.proj(coarse)
        # An embedding's gradient is summed in a fixed order; that of coarse[parent] is not on several threads.
        return skip, skip + functional.embedding(parent, coarse)


class _Convolution(SubMConv3d):
    """A submanifold convolution with prepared pairs. Its bias is added outside of spconv (see `CONVOLUTION`)."""

    def __init__(self, before: int, after: int, kernel: int, bias: bool):
        super().__init__(before, after, kernel, **CONVOLUTION | {"bias": bias})

    def forward(self, features: Tensor, pairs: tuple[Tensor, Tensor]) -> Tensor:
        features = sparse_functional.indice_subm_conv(features, self.weight, *pairs, len(features), self.algo)
        return features if self.bias is None else features + self.bias


def _batch_norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)


def _drop_paths(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Return a probability for each block of each level, rising from 0 to `last`."""
    rates = iter([last * number / max(sum(depths) - 1, 1) for number in range(sum(depths))])
    return [[next(rates) for _ in range(depth)] for depth in depths]


def from_pointcept(tensors: Mapping[str, Tensor]) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Return options and tensors for those of a PT-v3m1; see `tttkd_ros.segmenter.backbones`.

    The number of heads is not in the shapes. Each head has 16 channels, as in every published configuration. Strides
    and patch size are the defaults.
    """
    (channels, depths), (decoder_channels, decoder_depths) = _sizes(tensors, "enc.enc"), _sizes(tensors, "dec.dec")
    hidden = tensors.get("enc.enc0.block0.mlp.0.fc1.weight")
    if hidden is None or len(decoder_channels) != len(channels) - 1:
        raise ValueError(f"the checkpoint has {len(channels)} levels on the way down and {len(decoder_channels)} on "
                         "the way up, expected those of a PT-v3m1 with a decoder")
    if any(width % HEAD_WIDTH or not width for width in channels + decoder_channels):
        raise ValueError(f"channels are {channels} and {decoder_channels}, expected multiples of {HEAD_WIDTH}, the "
                         "width of a head")
    heads, decoder_heads = (tuple(width // HEAD_WIDTH for width in widths) for widths in (channels, decoder_channels))
    options = dict(channels=channels, depths=depths, heads=heads, decoder_channels=decoder_channels,
                   decoder_depths=decoder_depths, decoder_heads=decoder_heads, strides=(2,) * len(decoder_channels),
                   mlp_ratio=hidden.shape[:1].numel() // channels[0])
    return options, dict(tensors)


def _sizes(tensors: Mapping[str, Tensor], way: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return channels and depths of all levels on the way down or up."""
    channels, depths = [], []
    while (norm := f"{way}{len(channels)}.block0.norm1.0.weight") in tensors:
        channels.append(tensors[norm].shape[:1].numel())
        depths.append(next(depth for depth in count(1) if norm.replace("block0", f"block{depth}") not in tensors))
    return tuple(channels), tuple(depths)
