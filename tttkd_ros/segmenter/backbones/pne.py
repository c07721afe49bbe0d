"""The kernel-point U-Net of TTT-KD's indoor table: PNE's SegUNetKPGauss (lisaweijler/SE3Conv3D), on PyTorch alone.

A level has one point per occupied cell of a grid, at the mean of the points of the level before. The grids double.
A convolution sums over the neighbours within 2 cells, of the coarser of the two levels on the way up and of the finer
one on the way down. `Convolution` has the formula.

Two constants of the source's convolutions are running averages of a calibration before training. 1 / radius is the
same for every cloud here, because the radius belongs to the grid, so it is no average. Outputs per neighbour is the
buffer `outputs_per_neighbour`. `Network.calibrate` sets it before training, and nothing changes it afterwards: it is
one of `Network.constants`, so that it is saved and loaded with the weights, but no adaptation moves it.

Differences from the source: all convolutions share one random rotation of the kernel points, so that those between the
same levels share their correlations. There are blocks on the way up, too (the source has decoder_blocks=0). The
convolution that leads back to the finest level ends the network; the projectors are the student's. The input always has
a constant 1, so that geometry counts where the other inputs are 0. There is no drop path: an interrupted training
could not be resumed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from tttkd_ros.segmenter.backbones.base import Backbone, check_sizes
from tttkd_ros.segmenter.radius import REACH, CellPoints, pairs_within, ranges
from tttkd_ros.segmenter.voxels import GRID, coarsen, means, voxelise

BASES = 16
KERNEL_POINTS, SCALE, SIGMA = 13, 0.6, 0.3  # the radius of a neighbourhood is 1
ROWS = KERNEL_POINTS + 1  # of a kernel; the last is the bias of the bases
FLAT = 1 / (math.pi * REACH**2)  # outputs per neighbour on a plane, one point a cell


@dataclass(frozen=True)
class Options:
    """stem: features of the convolutions before the first level. widths: features of each level. blocks,
    decoder_blocks: per level, on the way down and on the way up. head: features of the result."""

    stem: int = 8
    widths: tuple[int, ...] = (64, 128, 192, 256, 320)
    blocks: int = 2
    decoder_blocks: int = 2
    head: int = 128

    def __post_init__(self):
        if type(self.decoder_blocks) is not int or self.decoder_blocks:  # 0 is allowed
            check_sizes(decoder_blocks=self.decoder_blocks)
        check_sizes(stem=self.stem, widths=self.widths, blocks=self.blocks, head=self.head)
        if not isinstance(self.widths, tuple) or 2 ** len(self.widths) > GRID:
            raise ValueError(f"widths is {self.widths!r}, expected 1 to {GRID.bit_length() - 1} numbers")
        if max(self.blocks, self.decoder_blocks) > 64:
            raise ValueError(f"blocks is {self.blocks} and decoder_blocks {self.decoder_blocks}, expected at most 64")


class Network(Backbone):
    """U-Net of kernel-point convolutions.

    Two convolutions lead from the finest level, of cells of `voxel_size`, to the first one with blocks. One leads back.
    """

    constants = ("kernel_points", "outputs_per_neighbour")
    rate_scale = 1 / 30  # its gradients are several times as long as those of `scn`, and longer steps ruin it

    def __init__(self, options: Options, inputs: int, voxel_size: float):
        super().__init__(inputs, voxel_size)
        stem, widths = options.stem, options.widths
        self.channels, self.cell = options.head, 2 ** len(widths)
        self.register_buffer("kernel_points", _kernel_points())
        # (3, levels): of the neighbourhoods `within`, `down` and `up` of a `Hierarchy`.
        self.register_buffer("outputs_per_neighbour", torch.full((3, len(widths)), FLAT))
        self.stem = nn.ModuleList([Convolution(1 + inputs, stem), Convolution(stem, stem)])
        self.stem_activations = nn.ModuleList(_activation(stem) for _ in range(2))
        self.entry = nn.Sequential(nn.Linear(stem, widths[0], bias=False), _norm(widths[0]))
        self.encoder = nn.ModuleList(_blocks(width, options.blocks) for width in widths)
        self.down = nn.ModuleList(NormedConvolution(*pair) for pair in zip(widths, widths[1:], strict=False))
        self.up = nn.ModuleList(NormedConvolution(*pair) for pair in zip(widths[1:], widths, strict=False))
        self.up_scales = nn.ParameterList(_scale(width) for width in widths[:-1])
        self.decoder = nn.ModuleList(_blocks(width, options.decoder_blocks) for width in widths[:-1])
        self.head = NormedConvolution(widths[0], options.head)
        self.activation = _activation(options.head)

    def prepare(self, clouds: Sequence[Tensor], inputs: Sequence[Tensor] | None = None,
                offsets: Sequence[Tensor] | None = None) -> Hierarchy:
        values = clouds if inputs is None else [torch.cat(pair, 1) for pair in zip(clouds, inputs, strict=True)]
        voxels = voxelise(clouds, self.voxel_size, self.cell, offsets, values)
        if not len(voxels):
            return Hierarchy(voxels.row, torch.empty(0, 1 + self.inputs, device=voxels.row.device))
        features = torch.cat([torch.ones_like(voxels.inputs[:, :1]), voxels.inputs[:, 3:]], 1)
        hierarchy = Hierarchy(voxels.row, features)
        fine = CellPoints(voxels.inputs[:, :3].contiguous(), voxels.indices.long(), self.voxel_size)
        for within, down, up in self.outputs_per_neighbour.T:
            voxels = coarsen(voxels, 1)
            coarse = CellPoints(means(fine.xyz, voxels.row), voxels.indices.long(), 2 * fine.edge)
            hierarchy.within.append(self._neighbourhood(coarse, coarse, *pairs_within(coarse, coarse), within))
            child, parent = pairs_within(fine, coarse)
            hierarchy.up.append(self._neighbourhood(fine, coarse, child, parent, up))
            near = (fine.xyz[child] - coarse.xyz[parent]).square().sum(1) <= (REACH * fine.edge) ** 2
            child, parent = child[near], parent[near]
            order = torch.argsort(parent, stable=True)
            hierarchy.down.append(self._neighbourhood(coarse, fine, parent[order], child[order], down))
            fine = coarse
        return hierarchy

    def forward(self, prepared: Hierarchy) -> Tensor:
        within, down, up = prepared.within, prepared.down, prepared.up
        features = self.stem_activations[0](self.stem[0](prepared.features, down[0]))
        features = self.entry(self.stem_activations[1](self.stem[1](features, within[0])))
        skips = []
        for level, blocks in enumerate(self.encoder):
            if level:
                features = self.down[level - 1](features, down[level])
            for block in blocks:
                features = block(features, within[level])
            skips.append(features)
        for level in reversed(range(len(self.up))):
            features = skips[level] + self.up_scales[level] * self.up[level](features, up[level + 1])
            for block in self.decoder[level]:
                features = block(features, within[level])
        return self.activation(self.head(features, up[0]))

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Hierarchy]) -> None:
        """Set the outputs per neighbour to their means over some batches of training data, before training."""
        ratios = [
            [[each.outputs / len(each.output) for each in kind] for kind in (batch.within, batch.down, batch.up)]
            for batch in batches if len(batch)
        ]
        if ratios:
            self.outputs_per_neighbour.copy_(torch.tensor(ratios).mean(0))

    def coarse_cells(self, prepared: Hierarchy) -> int:
        return prepared.within[-1].outputs if len(prepared) else 0

    def _neighbourhood(self, outputs: CellPoints, sources: CellPoints, output: Tensor, source: Tensor,
                       scale: Tensor) -> Neighbourhood:
        """output, source: (P,) int64, the pairs. scale: outputs per neighbour."""
        offset = (sources.xyz[source] - outputs.xyz[output]) / (REACH * sources.edge)
        points, ones = self.kernel_points, torch.ones_like(offset[:, :1])
        # |o - p|^2 without a tensor (P, 13, 3), which takes three times as long.
        squared = torch.addmm(points.square().sum(1), offset, points.T, alpha=-2) + offset.square().sum(1, keepdim=True)
        weights = torch.cat([squared.div_(-2 * SIGMA**2).exp_(), ones], 1).mul_(scale)
        return Neighbourhood(output, source, weights, len(outputs), len(sources))


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """The P pairs of an output and one of its neighbours, the sources.

    output, source: (P,) int64, output ascending. weights: (P, ROWS), of the rows of a kernel. outputs, sources: how
    many points there are.
    """

    output: Tensor
    source: Tensor
    weights: Tensor
    outputs: int
    sources: int

    @cached_property
    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """What to add for each output: row numbers of (sources * ROWS, C), where each output begins, and weights."""
        rows = self.source[:, None] * ROWS + torch.arange(ROWS, device=self.source.device)
        count = torch.bincount(self.output, minlength=self.outputs)
        return rows.flatten(), (count.cumsum(0) - count) * ROWS, self.weights.flatten()

    @cached_property
    def gradient_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """What to add for the gradient of each row of (sources * ROWS, C), in the form of `sums`."""
        order = torch.argsort(self.source, stable=True)
        count = torch.bincount(self.source, minlength=self.sources)
        size = count.repeat_interleave(ROWS)
        pair = order[ranges((count.cumsum(0) - count).repeat_interleave(ROWS), size)]
        row = torch.arange(ROWS, device=order.device).repeat(self.sources).repeat_interleave(size)
        return self.output[pair], size.cumsum(0) - size, self.weights[pair, row]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A batch of clouds at all levels. Level 0 is the finest; neighbourhoods have an entry for each level but one.

    row: (sum N,) int64, the point of level 0 that each point belongs to. features: (M, 1 + inputs), of these.
    within: of levels 1, 2, ... down: from levels 0, 1, ... to the next. up: back to them.
    """

    row: Tensor
    features: Tensor
    within: list[Neighbourhood] = field(default_factory=list)
    down: list[Neighbourhood] = field(default_factory=list)
    up: list[Neighbourhood] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.features)


class Convolution(nn.Module):
    """A point convolution: the output at x is s * sum over its neighbours y and over k of phi_k(y - x) W_k f(y).

    phi are `BASES` linear functions, with a bias, of the correlations exp(-d^2 / 2 sigma^2) with the kernel points. d
    is the distance from the offset, divided by the radius, to a kernel point. s is the outputs per neighbour.

    As phi is linear, the kernel has a matrix for each kernel point and one for the bias, which are computed first.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.basis = nn.Linear(KERNEL_POINTS, BASES)
        nn.init.zeros_(self.basis.bias)
        bound = (before * BASES) ** -0.5
        self.weight = nn.Parameter(torch.empty(BASES, before, after).uniform_(-bound, bound))

    def forward(self, features: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        """Compute features (outputs, after) of those of the sources, (sources, before)."""
        mix = torch.cat([self.basis.weight, self.basis.bias[:, None]], 1)  # (BASES, ROWS)
        _, before, after = self.weight.shape
        kernel = torch.einsum("br,bio->iro", mix, self.weight)
        rows = (features @ kernel.reshape(before, ROWS * after)).view(-1, after)
        return _WeightedSum.apply(rows, neighbourhood)


class NormedConvolution(nn.Module):
    """BatchNorm and a convolution."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.norm, self.convolution = _norm(before), Convolution(before, after)

    def forward(self, features: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        return self.convolution(self.norm(features), neighbourhood)


class Block(nn.Module):
    """A convolution and a perceptron, each added to its input after a factor per feature."""

    def __init__(self, width: int):
        super().__init__()
        self.convolution = NormedConvolution(width, width)
        self.convolution_scale = _scale(width)
        self.perceptron = nn.Sequential(_norm(width), nn.Linear(width, 2 * width), nn.GELU(),
                                        nn.Linear(2 * width, width))
        self.perceptron_scale = _scale(width)

    def forward(self, features: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        features = features + self.convolution_scale * self.convolution(features, neighbourhood)
        return features + self.perceptron_scale * self.perceptron(features)


class _WeightedSum(Function):
    """The weighted sums of a neighbourhood over rows (sources * ROWS, C).

    torch's own gradient of embedding_bag takes ten times as long on a CPU, and is not repeatable on a GPU.
    """

    @staticmethod
    def forward(context, rows: Tensor, neighbourhood: Neighbourhood) -> Tensor:
        context.neighbourhood = neighbourhood
        return _weighted_sums(rows, *neighbourhood.sums)

    @staticmethod
    @once_differentiable
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        return _weighted_sums(gradient.contiguous(), *context.neighbourhood.gradient_sums), None


def _weighted_sums(rows: Tensor, numbers: Tensor, begins: Tensor, weights: Tensor) -> Tensor:
    return functional.embedding_bag(numbers, rows, begins, mode="sum", per_sample_weights=weights)


def _kernel_points() -> Tensor:
    """Return (13, 3): the corners of an icosahedron and its centre, rotated at random."""
    golden = (1 + math.sqrt(5)) / 2
    corners = [(0, one, long) for one in (-1, 1) for long in (-golden, golden)]
    corners = [corner[turn:] + corner[:turn] for turn in range(3) for corner in corners]
    points = torch.tensor([*corners, (0.0, 0.0, 0.0)])
    orthogonal, triangular = torch.linalg.qr(torch.randn(3, 3))
    # With these signs every rotation is equally likely. A mirror image of the points is a rotated one.
    return points @ (orthogonal * triangular.diagonal().sign()) * (SCALE / math.hypot(1, golden))


def _blocks(width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(Block(width) for _ in range(count))


def _norm(width: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, momentum=0.2)


def _activation(width: int) -> nn.Sequential:
    return nn.Sequential(_norm(width), nn.GELU())


def _scale(width: int) -> nn.Parameter:
    """The factor of a residual branch. It starts near 0, so that a new network is shallow."""
    return nn.Parameter(torch.full((width,), 1e-6))
