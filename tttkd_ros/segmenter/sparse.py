"""spconv, imported once without its warnings."""

from __future__ import annotations

import logging
import warnings

with warnings.catch_warnings():  # spconv 2.3 decorates its functions in a way that torch has deprecated
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.cuda.amp.custom")
    from spconv.core import ConvAlgo
    from spconv.pytorch import SparseConv3d, SparseConvTensor, SparseInverseConv3d, SubMConv3d, functional, ops
    from spconv.pytorch.conv import SparseConvolution
    from spconv.pytorch.core import IndiceData

# spconv calls a renamed torch function, which torch warns of.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

# Only the native algorithm runs on a CPU too. No convolution has a bias, because spconv's CPU kernels compute it
# wrongly in eval mode (spconv issue 719).
CONVOLUTION = {"bias": False, "algo": ConvAlgo.Native}

__all__ = [
    "CONVOLUTION", "ConvAlgo", "IndiceData", "SparseConvTensor", "SparseConvolution", "SparseInverseConv3d",
    "StridedConv3d", "SubMConv3d", "functional", "ops",
]


class StridedConv3d(SparseConv3d):
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
