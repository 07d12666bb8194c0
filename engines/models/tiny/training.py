"""The resumable training loop of both stages: learning-rate schedule and averaged weights."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from engines.models.tiny.checkpoint import Checkpoint

COOLDOWN = 0.25
"""Share of the steps, at the end, over which the learning rate falls to zero."""
WARMUP_STEPS = 100


def learning_rate_factor(step: int, steps: int) -> float:
    """Linear warm-up, then constant, then a linear decay over the last quarter."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (COOLDOWN * steps))


class Average:
    """Exponential moving average of parameters, with a warm-up to forget early weights."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay

    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = [parameter.detach() for parameter in self.module.parameters()]
        currents = [parameter.detach() for parameter in module.parameters()]
        torch._foreach_lerp_(averages, currents, 1 - decay)


def train(
    module: nn.Module,
    loss_of: Callable[[int], Tensor],
    *,
    steps: int,
    learning_rate: float,
    checkpoint: Path,
    decay: float = 0.999,
    save_every: int = 200,
) -> nn.Module:
    """Minimise ``loss_of(step)`` over ``module`` and return a copy with averaged weights.

    Training resumes from ``checkpoint`` if it exists. The randomness of a step must depend on the
    step only. Raises EngineError if the checkpoint belongs to another schedule.
    """
    optimiser = torch.optim.AdamW(
        module.parameters(), lr=learning_rate, weight_decay=0.01, foreach=True
    )
    average = Average(module, decay)
    first = 0
    stored = Checkpoint(
        checkpoint, {"steps": steps, "learning rate": learning_rate, "decay": decay}
    )
    state = stored.load()
    if state is not None:
        module.load_state_dict(state["module"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        first = state["step"]
    started, running = time.monotonic(), 0.0
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * learning_rate_factor(step, steps)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(step)
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        average.update(module, step)
        value = float(loss.detach())
        running = running * 0.98 + value * 0.02 if step > first else value
        done = step + 1
        if done % 50 == 0 or done == steps:
            pace = (time.monotonic() - started) / (done - first)
            print(f"step {done}/{steps} loss {running:.5f} {pace:.2f} s/step", flush=True)
        if done % save_every == 0 or done == steps:
            stored.save(
                module=module.state_dict(),
                average=average.module.state_dict(),
                optimiser=optimiser.state_dict(),
                step=done,
            )
    return average.module
