"""The distillation loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distillation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """L_2D of TTT-KD: the negative cosine similarity of rho_2D's output and the teacher's feature, mean over points.

    predicted, target: (M, D), M at least 1. Targets are centred with the teacher's source mean first: without that, all
    of a ViT's patch features point much the same way and the cosine says little.
    """
    return -functional.cosine_similarity(predicted, target, dim=1).mean()
