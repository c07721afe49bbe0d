"""The stand-in teacher: a small Vision Transformer of DINOv2's architecture, trained on part masks of rendered images.

It is not DINOv2. It exists so that all of TTT-KD can run and be tested without a downloaded foundation model. It sees
no LiDAR, and no image of a world that an evaluation uses: each of its drives is through a town of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from tttkd_ros.simulation.drive import DriveProfile, draw_town, drive
from tttkd_ros.simulation.parts import PARTS
from tttkd_ros.simulation.seeds import training_seeds
from tttkd_ros.teacher.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from tttkd_ros.training.devices import Processes, launch
from tttkd_ros.training.loop import Optimisation, Resume, print_digest, train

CELL = 7  # pixels: one mask value per half patch, finer than the grid of features


def train_teacher(
    out: Path = Path("models/teacher"), *, drives: int = 1200, images_per_drive: int = 4, steps: int = 4000,
    batch: int = 16, width: int = 192, layers: int = 6, heads: int = 3, learning_rate: float = 1e-3,
    precision: Literal["float32", "bfloat16"] = "bfloat16", seed: int = 0, threads: int = 1,
) -> None:
    """Train the stand-in teacher on images of simulated drives and save it as a folder in the layout of timm's hub.

    Args:
        out: folder to write config.json and model.safetensors to.
        drives: simulated drives to take images from, each through a town drawn at random.
        images_per_drive: images of each drive, two seconds apart.
        steps: gradient steps (AdamW, one cycle).
        batch: images per step.
        width: feature dimension.
        layers: transformer blocks.
        heads: attention heads.
        learning_rate: peak of the cycle.
        precision: of the transformer's products. bfloat16 is twice as fast on a processor that has it (AVX-512 BF16,
            AMX), and slower on others.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    seeds = training_seeds("teacher", seed, drives)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    images, masks = _render(seeds, images_per_drive)
    vit = build_vit(images.shape[1:3], width, layers, heads).train()
    cells = 14 // CELL
    head = nn.Linear(width, cells * cells * len(PARTS))
    frequency = np.bincount(masks.ravel(), minlength=len(PARTS)) / masks.size
    weights = torch.from_numpy(1 / np.log(1.1 + frequency)).float()  # rare parts count more
    objective = _Objective(vit, head, weights, cells, precision == "bfloat16")
    out.mkdir(parents=True, exist_ok=True)
    settings = dict(
        drives=drives, images_per_drive=images_per_drive, batch=batch, width=width, layers=layers, heads=heads,
        learning_rate=learning_rate, precision=precision, seed=seed,
    )
    resume = Resume(out / "training.pt", settings)
    optimisation = Optimisation(steps, learning_rate, weight_decay=0.05, max_norm=1.0, warm_up=0.1)
    launch(Processes("cpu"), train, objective, _Batches(images, masks, batch, seed), optimisation, title="teacher",
           seed=seed, resume=resume)
    save_vit(vit.eval(), out)
    resume.path.unlink()
    print_digest(out / "model.safetensors")


class _Batch(NamedTuple):
    pixels: Tensor  # (B, 3, H, W), 0..1
    parts: Tensor  # (B, H / CELL, W / CELL) int64


@dataclass(frozen=True, eq=False)
class _Batches(Dataset):
    images: np.ndarray
    masks: np.ndarray
    size: int
    seed: int

    def __getitem__(self, step: int) -> _Batch:
        generator = np.random.default_rng((self.seed, step))
        chosen = generator.integers(len(self.images), size=self.size)
        pixels = torch.from_numpy(self.images[chosen]).permute(0, 3, 1, 2).float() / 255
        parts = torch.from_numpy(self.masks[chosen]).long()
        flip = torch.from_numpy(generator.random(self.size) < 0.5)
        pixels[flip], parts[flip] = pixels[flip].flip(3), parts[flip].flip(2)
        return _Batch(_jitter(pixels, generator), parts)


class _Objective(nn.Module):
    """The cross-entropy of the part masks. cells: of a patch along each side."""

    def __init__(self, vit: nn.Module, head: nn.Module, weights: Tensor, cells: int, half: bool):
        super().__init__()
        self.vit, self.head, self.cells, self.half = vit, head, cells, half
        self.register_buffer("weights", weights)
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, batch: _Batch) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            tokens = self.vit.forward_features((batch.pixels - self.mean) / self.std)
        tokens = tokens[:, self.vit.num_prefix_tokens :].float()
        size, cells = len(tokens), self.cells
        rows, columns = batch.parts.shape[1] // cells, batch.parts.shape[2] // cells
        logits = self.head(tokens).view(size, rows, columns, cells, cells, len(PARTS)).permute(0, 5, 1, 3, 2, 4)
        logits = logits.reshape(size, len(PARTS), *batch.parts.shape[1:])
        return {"loss": cross_entropy(logits, batch.parts, self.weights)}


def build_vit(size: tuple[int, int], width: int, layers: int, heads: int) -> nn.Module:
    """Build a DINOv2 with random weights. size: (height, width) of its images in pixels."""
    from tttkd_ros.teacher.timm_import import timm

    return timm.create_model(
        "vit_small_patch14_dinov2", img_size=tuple(size), embed_dim=width, depth=layers, num_heads=heads,
        init_values=1.0,
        pretrained_cfg={"tag": "stand_in", "input_size": (3, *size), "fixed_input_size": True, "num_classes": 0,
                        "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "crop_pct": 1.0},
    )


def save_vit(vit: nn.Module, folder: Path) -> None:
    """Write config.json and model.safetensors, in the layout of timm's hub."""
    from tttkd_ros.teacher.timm_import import timm

    timm.models.save_for_hf(vit, folder, safe_serialization=True)
    (folder / "model.safetensors").chmod(0o644)


def _render(seeds: range, images_per_drive: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images (K, H, W, 3) uint8 and their part masks (K, H / CELL, W / CELL) uint8."""
    images, masks = [], []
    with Progress() as bar:
        task = bar.add_task("images", total=len(seeds) * images_per_drive)
        for seed in seeds:
            town = draw_town(np.random.default_rng((seed, 0)))
            for frame, (parts,), _ in drive(town, seed, images_per_drive, DriveProfile(period=2.0)):
                images.append(frame.views[0].image)
                masks.append(_majority(parts))
                bar.advance(task)
    return np.stack(images), np.stack(masks)


def _majority(parts: np.ndarray) -> np.ndarray:
    """Find the most frequent part in each CELL x CELL cell of (H, W); return (H / CELL, W / CELL) uint8."""
    height, width = parts.shape[0] // CELL, parts.shape[1] // CELL
    cells = parts[: height * CELL, : width * CELL].reshape(height, CELL, width, CELL)
    return np.stack([(cells == part).sum((1, 3)) for part in range(len(PARTS))]).argmax(0).astype(np.uint8)


def _jitter(pixels: Tensor, generator: np.random.Generator) -> Tensor:
    """Apply a random gamma per image, and a random gain per image and channel, to (B, 3, H, W) in 0..1."""
    gain = generator.uniform(0.7, 1.3, (len(pixels), 1, 1, 1)) * generator.uniform(0.9, 1.1, (len(pixels), 3, 1, 1))
    gamma = torch.from_numpy(generator.uniform(0.75, 1.3, (len(pixels), 1, 1, 1))).float()
    return (pixels.clamp(0, 1) ** gamma * torch.from_numpy(gain).float()).clamp(0, 1)
