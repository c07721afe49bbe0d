"""The stand-in teacher: a small Vision Transformer of DINOv2's architecture, taught with 2D part masks of rendered
images.

It is not DINOv2. It exists so that the whole of TTT-KD can be run and tested where no foundation model can be
downloaded; with a real DINOv2 directory at hand, use that one. It sees no LiDAR and no image of any drive that
evaluation uses.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from torch import nn
from torch.nn.functional import cross_entropy

from tttkd_ros.simulation.drive import WORLDS, DriveProfile, drive
from tttkd_ros.simulation.parts import PARTS
from tttkd_ros.training.loop import run

CELL = 7  # pixels: masks are taught per half patch, finer than the features' own grid
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FIRST_SEED = 1_000_000  # drives of the teacher's images; no other command starts here


def train_teacher(
    out: Path = Path("models/teacher"),
    *,
    drives: int = 240,
    images_per_drive: int = 10,
    steps: int = 700,
    batch: int = 16,
    width: int = 192,
    layers: int = 6,
    heads: int = 3,
    learning_rate: float = 1e-3,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Train the stand-in teacher on images of simulated drives and save it as a Hugging Face DINOv2 directory.

    Args:
        out: directory to write config.json, preprocessor_config.json and model.safetensors to.
        drives: simulated drives to take images from, spread over all worlds.
        images_per_drive: images of each, two seconds apart.
        steps: gradient steps (AdamW, one cycle).
        batch: images a step.
        width: feature dimension.
        layers: transformer blocks.
        heads: attention heads.
        learning_rate: peak of the cycle.
        seed: of weights, batches and drives.
        threads: CPU threads.
    """
    from transformers import Dinov2Config, Dinov2Model

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    images, masks = _render(drives, images_per_drive, FIRST_SEED + seed * drives)
    config = Dinov2Config(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, patch_size=14, image_size=196
    )
    vit = Dinov2Model(config).train()
    cells = 14 // CELL
    head = nn.Linear(width, cells * cells * len(PARTS))
    parameters = [*vit.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=steps, pct_start=max(0.1, 2 / steps)
    )
    frequency = np.bincount(masks.ravel(), minlength=len(PARTS)) / masks.size
    weights = torch.from_numpy(1 / np.log(1.1 + frequency)).float()  # rare parts count more
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))

    def step(i: int) -> float:
        rng = np.random.default_rng((seed, i))
        chosen = rng.integers(len(images), size=batch)
        x = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2).float() / 255
        y = torch.from_numpy(masks[chosen]).long()
        flip = torch.from_numpy(rng.random(batch) < 0.5)
        x[flip], y[flip] = x[flip].flip(3), y[flip].flip(2)
        x = _jitter(x, rng)
        tokens = vit((x - mean) / std).last_hidden_state[:, 1:]
        rows, columns = y.shape[1] // cells, y.shape[2] // cells
        logits = (
            head(tokens)
            .view(batch, rows, columns, cells, cells, len(PARTS))
            .permute(0, 5, 1, 3, 2, 4)
            .reshape(batch, len(PARTS), *y.shape[1:])
        )
        loss = cross_entropy(logits, y, weights)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        return loss.item()

    out.mkdir(parents=True, exist_ok=True)
    resume = out / "training.pt"
    run(
        steps,
        step,
        {"vit": vit, "head": head, "optimiser": optimiser, "schedule": schedule},
        title="teacher",
        resume=resume,
        settings={
            "drives": str(drives), "images_per_drive": str(images_per_drive), "batch": str(batch), "width": str(width),
            "layers": str(layers), "heads": str(heads), "learning_rate": str(learning_rate), "seed": str(seed),
        },
    )
    vit.eval().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    preprocessor = {
        "image_processor_type": "BitImageProcessor",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (out / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    resume.unlink()
    print(f"{out}/model.safetensors sha256 {hashlib.sha256((out / 'model.safetensors').read_bytes()).hexdigest()}")


def _render(drives: int, each: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (K, H, W, 3) uint8 and their part masks per cell (K, H / CELL, W / CELL) uint8."""
    images, masks = [], []
    with Progress() as bar:
        task = bar.add_task("images", total=drives * each)
        for i in range(drives):
            for frame, parts, _ in drive(list(WORLDS)[i % len(WORLDS)], seed + i, each, DriveProfile(period=2.0)):
                images.append(frame.views[0].image)
                masks.append(_majority(parts))
                bar.advance(task)
    return np.stack(images), np.stack(masks)


def _majority(parts: np.ndarray) -> np.ndarray:
    """The most frequent part of each CELL x CELL cell of (H, W) -> (H / CELL, W / CELL) uint8."""
    height, width = parts.shape[0] // CELL, parts.shape[1] // CELL
    cells = (
        parts[: height * CELL, : width * CELL]
        .reshape(height, CELL, width, CELL)
        .swapaxes(1, 2)
        .reshape(height * width, -1)
    )
    counts = np.zeros((len(cells), len(PARTS)), np.uint8)
    for pixel in cells.T:
        counts[np.arange(len(cells)), pixel] += 1
    return counts.argmax(1).astype(np.uint8).reshape(height, width)


def _jitter(x: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Random gain and offset per image and channel, and gamma per image: (B, 3, H, W) in 0..1."""
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (len(x), 1, 1, 1)) * rng.uniform(0.9, 1.1, (len(x), 3, 1, 1))).float()
    gamma = torch.from_numpy(rng.uniform(0.75, 1.3, (len(x), 1, 1, 1))).float()
    return (x.clamp(0, 1) ** gamma * gain).clamp(0, 1)
