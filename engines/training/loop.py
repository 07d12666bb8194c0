"""A resumable training loop with averaged weights; on a CUDA card one graph replays each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from engines.errors import EngineError
from engines.models.tiny.checkpoint import Checkpoint
from engines.models.tiny.train_unet import mirrored
from engines.models.tiny.training import Average, learning_rate_factor
from engines.training.latents import Latents
from engines.training.objectives import Objective
from engines.training.recipes import Network
from engines.training.write import write

BATCH = 64
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
UNCONDITIONAL = 0.1
"""Share of examples with the empty prompt, so that guidance works."""
AVERAGE_DECAY = 0.9985
LARGEST_GRADIENT = 1.0
EAGER_STEPS = 12
"""Steps before one is captured as a CUDA graph: lazy initialisation must be over by then."""
SAVE_SECONDS = 120.0

Batch = tuple[Tensor, ...]
"""Clean latents, noise, a standard normal number per example, and what else the network reads:
token ids and, for a ControlNet, its condition."""


class Batches:
    """The batch of a step, which depends on the seed and the step only, on any device.

    ``conditions`` (n x 1 x h x w, of the scenes as rendered) are mirrored with their scenes.
    """

    def __init__(
        self,
        latents: Latents,
        network: Network,
        seed: int,
        device: str,
        conditions: Tensor | None = None,
    ) -> None:
        self.seed, self.device = seed, device
        self.conditions = None if conditions is None else conditions.to(device)
        self.straight, self.mirror = latents.straight.to(device), latents.mirror.to(device)
        self.tokens = network.tokenize(latents.prompts).to(device)
        self.mirror_tokens = network.tokenize([mirrored(prompt) for prompt in latents.prompts]).to(
            device
        )
        self.empty = network.tokenize([""]).to(device)

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng([20, self.seed, step])
        picks = self._send(rng.choice(len(self.straight), BATCH, replace=False))
        mirror = self._send(rng.random(BATCH) < 0.5)
        drop = self._send(rng.random(BATCH) < UNCONDITIONAL)
        draw = self._send(rng.standard_normal(BATCH, dtype=np.float32))
        noise = self._send(rng.standard_normal((BATCH, *self.straight.shape[1:]), dtype=np.float32))
        clean = torch.where(mirror[:, None, None, None], self.mirror[picks], self.straight[picks])
        ids = torch.where(mirror[:, None], self.mirror_tokens[picks], self.tokens[picks])
        ids = torch.where(drop[:, None], self.empty, ids)
        if self.conditions is None:
            return clean, noise, draw, ids
        condition = self.conditions[picks]
        condition = torch.where(mirror[:, None, None, None], condition.flip(-1), condition)
        return clean, noise, draw, ids, condition.float().expand(-1, 3, -1, -1)

    def _send(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)


class _Step:
    """One optimiser step; on a card it is captured once and then replayed on the same memory."""

    def __init__(
        self, network: Network, objective: Objective, optimiser: torch.optim.Optimizer
    ) -> None:
        self.network, self.objective, self.optimiser = network, objective, optimiser
        self.graph: torch.cuda.CUDAGraph | None = None
        self.inputs: Batch | None = None
        self.loss = torch.zeros(())

    def eager(self, batch: Batch) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        return self._compute(batch)

    def _compute(self, batch: Batch) -> Tensor:
        clean, noise, draw, *inputs = batch
        example = self.objective(clean, noise, draw)
        predicted = self.network(example.noisy, example.timestep, *inputs)
        error = (predicted - example.target).square().mean((1, 2, 3))
        loss: Tensor = (example.weight * error).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        return loss.detach()

    def capture(self, batch: Batch) -> None:
        """Capture the step on copies of the tensors of ``batch``, without computing it."""
        self.inputs = tuple(tensor.clone() for tensor in batch)
        self.optimiser.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = self._compute(self.inputs)
        self.graph = graph

    def replay(self, batch: Batch) -> Tensor:
        assert self.graph is not None
        assert self.inputs is not None
        for target, value in zip(self.inputs, batch, strict=True):
            target.copy_(value, non_blocking=True)
        self.graph.replay()
        return self.loss


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives."""

    network: Network
    """With averaged weights."""
    seconds: float
    """Time of training, with all sessions before."""


def train(
    network: Network,
    objective: Objective,
    batches: Callable[[int], Batch],
    *,
    recipe: str,
    seed: int,
    steps: int,
    work: Path,
    snapshots: Mapping[int, Path],
    device: str,
    graph: bool,
) -> Trained:
    """Train for ``steps``; resume from the checkpoint of ``recipe`` and ``seed`` in ``work``.

    Parameters that require no gradient stay as they are. ``snapshots`` maps numbers of steps to
    folders to which the averaged network is then written. Raises EngineError if the checkpoint
    belongs to another schedule, or if a snapshot cannot be written any more.
    """
    checkpoint = Checkpoint(
        work / f"{recipe}-{seed}.pt",
        {
            "recipe": recipe,
            "seed": seed,
            "steps": steps,
            "batch": BATCH,
            "learning rate": LEARNING_RATE,
        },
    )
    on_card = torch.device(device).type == "cuda"
    network.to(device)
    rate = torch.tensor(LEARNING_RATE, device=device) if on_card else LEARNING_RATE
    optimiser = torch.optim.AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=rate,
        weight_decay=WEIGHT_DECAY,
        foreach=True,
        capturable=on_card,
    )
    average, first, before = Average(network, AVERAGE_DECAY), 0, 0.0
    written: dict[int, str] = {}
    state = checkpoint.load(device)
    if state is not None:
        network.load_state_dict(state["module"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first, before, written = state["step"], state["seconds"], state["snapshots"]
    _require_possible(snapshots, steps, first, written)
    seconds = before
    step_once = _Step(network, objective, optimiser)
    started = saved = time.monotonic()
    losses: list[Tensor] = []
    side = torch.cuda.Stream() if on_card else None
    with torch.cuda.stream(side):  # a null context without a card
        for step in range(first, steps):
            for group in optimiser.param_groups:
                value = LEARNING_RATE * learning_rate_factor(step, steps)
                if on_card:
                    group["lr"].fill_(value)
                else:
                    group["lr"] = value
            batch = batches(step)
            if on_card and graph and step_once.graph is None and step - first == EAGER_STEPS:
                graph = _captured(step_once, batch)
            loss = step_once.eager(batch) if step_once.graph is None else step_once.replay(batch)
            average.update(network, step)
            losses.append(loss.clone())
            done = step + 1
            if done % 100 == 0 or done == steps:
                pace = (time.monotonic() - started) / (done - first)
                print(f"step {done}/{steps} loss {_mean(losses):.5f} {pace:.4f} s/step", flush=True)
                losses.clear()
            if done in snapshots:
                assert isinstance(average.module, Network)
                write(average.module, snapshots[done])
                written[done] = str(snapshots[done].resolve())
            if time.monotonic() - saved > SAVE_SECONDS or done == steps:
                saved = time.monotonic()
                seconds = before + saved - started
                checkpoint.save(
                    module=network.state_dict(),
                    average=average.module.state_dict(),
                    optimiser=optimiser.state_dict(),
                    step=done,
                    seconds=seconds,
                    snapshots=written,
                )
    assert isinstance(average.module, Network)
    return Trained(average.module.eval(), seconds)


def _require_possible(
    snapshots: Mapping[int, Path], steps: int, first: int, written: Mapping[int, str]
) -> None:
    """Raise EngineError for a snapshot that training from step ``first`` on cannot write."""
    for number, folder in sorted(snapshots.items()):
        if number > steps:
            raise EngineError(
                f"{folder} would be a snapshot after {number} of {steps} steps; "
                f"leave {number} out of --snapshots, or train for more --steps"
            )
        lost = written.get(number) != str(folder.resolve()) or not folder.is_dir()
        if number <= first and lost:
            raise EngineError(
                f"{folder} cannot be written: training is at step {first} already; "
                f"leave {number} out of --snapshots, or give another --work to train again"
            )


def _captured(step: _Step, batch: Batch) -> bool:
    try:
        step.capture(batch)
    except RuntimeError as error:
        print(f"training without a CUDA graph: {str(error).splitlines()[0]}", flush=True)
        step.graph = None
    return step.graph is not None


def _mean(losses: Sequence[Tensor]) -> float:
    return float(torch.stack(list(losses)).mean())
