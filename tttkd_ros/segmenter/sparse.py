"""spconv, imported once without its warnings."""

from __future__ import annotations

import logging
import warnings

with warnings.catch_warnings():  # spconv 2.3 decorates its functions in a way that torch has deprecated
    warnings.filterwarnings("ignore", category=FutureWarning, message=".*torch.cuda.amp.custom")
    from spconv.core import ConvAlgo
    from spconv.pytorch import SparseConv3d, SparseConvTensor, SparseInverseConv3d, SubMConv3d, functional
    from spconv.pytorch.conv import SparseConvolution
    from spconv.pytorch.core import IndiceData

# spconv calls a renamed torch function, which torch warns of.
logging.getLogger("torch.fx._symbolic_trace").setLevel(logging.ERROR)

# Only the native algorithm runs on a CPU too. No convolution has a bias, because spconv's CPU kernels compute it
# wrongly in eval mode (spconv issue 719).
CONVOLUTION = {"bias": False, "algo": ConvAlgo.Native}

__all__ = [
    "CONVOLUTION", "ConvAlgo", "IndiceData", "SparseConv3d", "SparseConvTensor", "SparseConvolution",
    "SparseInverseConv3d", "SubMConv3d", "functional",
]
