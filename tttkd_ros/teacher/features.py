"""A DINOv2 as one function of the input: pixels of a fixed size to patch features."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PatchFeatures(nn.Module):
    """The patch tokens of a DINOv2 after its last LayerNorm, frozen. It is the engine `eager` (see `engines.Engine`).

    model: Dinov2Model or Dinov2WithRegistersModel. input_size: (height, width) in pixels, multiples of the patch size.
    The position embedding is interpolated once, so a compiler of this module meets a constant.
    """

    name, cache_path = "eager", None

    def __init__(self, model: nn.Module, input_size: tuple[int, int]):
        super().__init__()
        embeddings = model.embeddings
        patch = embeddings.patch_embeddings.patch_size
        self.grid = (input_size[0] // patch[0], input_size[1] // patch[1])
        self.dim = model.config.hidden_size
        self.config = model.config.to_json_string()  # with the weights it identifies the model
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
        self.requires_grad_(False).eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features (B, rows * cols, dim) of normalised pixels (B, 3, height, width)."""
        tokens = self.patches(pixels) + self.position
        tokens = torch.cat((self.prefix.expand(tokens.shape[0], -1, -1), tokens), 1)
        tokens = self.layernorm(self.layers(tokens))
        return tokens[:, self.prefix.shape[1] :]
