"""Train the shipped labeler: ``python -m datasets.labelers.tiny.train --work FOLDER --out FOLDER``.

Trains on rendered scenes only, with random blur, tint and noise, so that the labeler also works on
generated images. Training resumes from its checkpoints.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from datasets.atomic_write import atomic_write
from datasets.labelers.tiny.network import WORDS, Reading, SceneNet
from datasets.render import rendered, scenes_of
from datasets.scenes import Scene

BATCH = 32


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of the learning rate."""

    scenes: int
    steps: int
    learning_rate: float
    depth_weight: float


CYCLES = (
    Cycle(12288, 2000, 2e-3, 1.0),
    Cycle(20480, 2600, 1.5e-3, 3.0),
    Cycle(20480, 1500, 1e-3, 3.0),
)
"""The later cycles weigh depth more: absolute depth combines several cues and is slow to learn."""


@dataclass(frozen=True, slots=True)
class Examples:
    """Rendered images with exact labels, in compact types."""

    rgb: Tensor
    disparity: Tensor
    mask: Tensor
    normals: Tensor
    words: Tensor

    def pick(self, at: Tensor) -> Examples:
        """The examples ``at``."""
        return Examples(
            self.rgb[at], self.disparity[at], self.mask[at], self.normals[at], self.words[at]
        )


def word_indices(scenes: list[Scene]) -> Tensor:
    """Indices into ``WORDS``, n x 5."""
    return torch.tensor(
        [[WORDS[name].index(getattr(s.attributes, name)) for name in WORDS] for s in scenes]
    )


def examples_of(name: str, limit: int | None, cache: Path) -> Examples:
    """Render the first ``limit`` scenes of the set ``name``, or read them from ``cache``."""
    if not cache.exists():
        scenes = scenes_of(name, limit)
        chunks = list(rendered(scenes))
        tensors = {
            "rgb": (torch.cat([c.rgb for c in chunks]) * 255).round().to(torch.uint8),
            "disparity": torch.cat([c.disparity for c in chunks]).half(),
            "mask": torch.cat([c.mask for c in chunks]),
            "normals": (torch.cat([c.normals for c in chunks]) * 127).round().to(torch.int8),
            "words": word_indices(scenes),
        }
        with atomic_write(cache) as partial:
            save_file(tensors, partial)
    return Examples(**load_file(cache))


def roughened(rgb: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur and tint each image and add noise, by random amounts."""
    n = len(rgb)
    sigma = torch.from_numpy(rng.uniform(0.05, 0.9, n)).float()
    taps = torch.arange(-2, 3).float()
    kernel = torch.exp(-(taps[None] ** 2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = functional.pad(rgb.reshape(1, n * 3, *rgb.shape[2:]), (2, 2, 2, 2), mode="replicate")
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=n * 3)
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=n * 3)
    tint = torch.from_numpy(rng.normal(1.0, 0.03, (n, 3, 1, 1))).float()
    noise = torch.from_numpy(rng.standard_normal(rgb.shape, dtype=np.float32))
    level = torch.from_numpy(rng.uniform(0.0, 0.04, (n, 1, 1, 1))).float()
    return (flat.view_as(rgb) * tint + level * noise).clamp(0, 1)


def loss_of(
    reading: Reading, batch: Examples, mean: float, std: float, depth_weight: float
) -> Tensor:
    """Weighted sum of the heads' losses."""
    target = (batch.disparity.float() - mean) / std
    depth = functional.smooth_l1_loss(reading.disparity, target, beta=0.1)
    mask = batch.mask.float()
    probability = reading.saliency_logit.sigmoid()
    overlap = (
        2 * (probability * mask).sum((1, 2)) / (probability.sum((1, 2)) + mask.sum((1, 2)) + 1)
    )
    saliency = (
        functional.binary_cross_entropy_with_logits(reading.saliency_logit, mask)
        + (1 - overlap).mean()
    )
    normals = 1 - (reading.normals * batch.normals.float() / 127).sum(1).mean()
    words = sum(
        functional.cross_entropy(reading.words[name], batch.words[:, i])
        for i, name in enumerate(WORDS)
    )
    return depth_weight * depth + saliency + normals + 0.1 * words


def mirror(batch: Examples, which: Tensor) -> Examples:
    """Mirror the images ``which`` left to right, with their labels."""
    light = list(WORDS).index("light")
    words = batch.words.clone()
    words[which, light] = 1 - words[which, light]
    here = which[:, None, None]
    sign = torch.tensor([-1, 1, 1], dtype=torch.int8).view(1, 3, 1, 1)
    return Examples(
        rgb=torch.where(here[:, None], batch.rgb.flip(-1), batch.rgb),
        disparity=torch.where(here, batch.disparity.flip(-1), batch.disparity),
        mask=torch.where(here, batch.mask.flip(-1), batch.mask),
        normals=torch.where(here[:, None], batch.normals.flip(-1) * sign, batch.normals),
        words=words,
    )


def fit(
    net: SceneNet, train: Examples, mean: float, std: float, checkpoint: Path, number: int
) -> None:
    """Train for one cycle; the randomness of a step depends on the cycle and the step only."""
    cycle = CYCLES[number]
    steps = cycle.steps
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=cycle.learning_rate, weight_decay=1e-3, foreach=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, cycle.learning_rate, total_steps=steps, pct_start=0.1
    )
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        first = state["step"]
    started = time.monotonic()
    for step in range(first, steps):
        rng = np.random.default_rng([30 + number, step])
        batch = train.pick(torch.from_numpy(rng.choice(len(train.rgb), BATCH, replace=False)))
        batch = mirror(batch, torch.from_numpy(rng.random(BATCH) < 0.5))
        loss = loss_of(
            net(roughened(batch.rgb.float() / 255, rng)), batch, mean, std, cycle.depth_weight
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        done = step + 1
        if done % 50 == 0:
            pace = (time.monotonic() - started) / (done - first)
            print(f"step {done}/{steps} loss {loss.item():.4f} {pace:.2f} s/step", flush=True)
        if done % 200 == 0 or done == steps:
            with atomic_write(checkpoint) as partial:
                torch.save(
                    {
                        "net": net.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "schedule": schedule.state_dict(),
                        "step": done,
                    },
                    partial,
                )


def main() -> None:
    """Train the labeler and write its weights."""
    parser = argparse.ArgumentParser(
        prog="python -m datasets.labelers.tiny.train", description=__doc__
    )
    parser.add_argument("--work", type=Path, default=Path("train-labeler"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--threads", type=int, default=1, help="on a shared machine, more can be slower"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = SceneNet()
    mean = std = 0.0
    for number, cycle in enumerate(CYCLES):
        train = examples_of("train", cycle.scenes, work / f"labelled-{cycle.scenes}.safetensors")
        if not number:
            mean, std = float(train.disparity.float().mean()), float(train.disparity.float().std())
        fit(net, train, mean, std, work / f"labeler-{number + 1}.pt", number)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: value.half() for name, value in net.state_dict().items()},
        arguments.out / "labeler.safetensors",
    )
    digest = hashlib.sha256((arguments.out / "labeler.safetensors").read_bytes()).hexdigest()
    print(f"SHA-256 of the weights, for datasets/labelers/tiny/__init__.py: {digest}")
    scale = {"disparity_mean": round(mean, 6), "disparity_std": round(std, 6)}
    (arguments.out / "config.json").write_text(json.dumps(scale, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
