"""A DINOv2 as one function of the input: pixels of a fixed size to patch features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchFeatures(nn.Module):
    """The patch tokens of a Dinov2Model or Dinov2WithRegistersModel after its last LayerNorm; frozen for good.

    The input size is fixed, so the position embedding is interpolated once, here, and whatever compiles this module
    meets a constant. config: the model's, as JSON; with the weights it tells all of the model.
    """

    def __init__(self, model: nn.Module, input_size: tuple[int, int]):
        super().__init__()
        embeddings = model.embeddings
        patch = embeddings.patch_embeddings.patch_size
        self.grid = (input_size[0] // patch[0], input_size[1] // patch[1])
        self.dim, self.config = model.config.hidden_size, model.config.to_json_string()
        self.patches, self.layernorm = embeddings.patch_embeddings, model.layernorm
        self.layers = nn.Sequential(*model.encoder.layer)
        with torch.no_grad():
            tokens = embeddings.cls_token.new_empty(1, 1 + self.grid[0] * self.grid[1], self.dim)
            position = embeddings.interpolate_pos_encoding(tokens, *input_size)
            prefix = [embeddings.cls_token + position[:, :1]]
            if hasattr(embeddings, "register_tokens"):  # registers have no position
                prefix.append(embeddings.register_tokens)
            self.register_buffer("prefix", torch.cat(prefix, 1).clone())
            self.register_buffer("position", position[:, 1:].clone())
        super().requires_grad_(False)
        super().train(False)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, h, w), normalised -> (B, rows * cols, dim)."""
        tokens = self.patches(pixels) + self.position
        tokens = torch.cat((self.prefix.expand(tokens.shape[0], -1, -1), tokens), 1)
        tokens = self.layernorm(self.layers(tokens))
        return tokens[:, self.prefix.shape[1] :]

    def train(self, mode: bool = True) -> PatchFeatures:
        if mode:
            raise ValueError("the teacher is frozen: it has no train mode; train the student instead")
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> PatchFeatures:
        if requires_grad:
            raise ValueError("the teacher is frozen: its parameters take no gradient; train the student instead")
        return super().requires_grad_(False)
