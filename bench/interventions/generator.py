"""Generate images with and without edits: the edited half of a batch in PyTorch, all else on the run's own engine.

Steps before the first edit are those of the unedited image, whose noise predictions are kept and given again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from bench.interventions.arms import Arm, edit_at
from bench.runs.probes import StoredProbes
from bench.study import Study
from datasets.items import Item
from engines.editing import editing
from engines.engine import Engine, Prediction
from engines.prompt import predict as predicted
from extract.trajectory import denoise, in_batches, initial_noise
from probes.blocks import block_means


@dataclass(frozen=True, slots=True)
class Originals:
    """The unedited images of n items, with what it takes to leave their trajectories at any step."""

    items: tuple[Item, ...]
    noise: Float[Tensor, "n steps 2 c h w"]
    """Noise predictions without and with the prompt."""
    text: Float[Tensor, "n words width"]
    images: Float[Tensor, "n 3 height width"]

    def take(self, rows: Sequence[int]) -> Originals:
        """The given rows, in that order; repeats are allowed."""
        at = torch.tensor(rows, dtype=torch.long)
        return Originals(
            tuple(self.items[row] for row in rows), self.noise[at], self.text[at], self.images[at]
        )

    def __add__(self, other: Originals) -> Originals:
        """Both, in order."""
        tensors = (
            torch.cat([getattr(self, name), getattr(other, name)])
            for name in ("noise", "text", "images")
        )
        return Originals((*self.items, *other.items), *tensors)

    def tensors(self) -> dict[str, Tensor]:
        """As named tensors, for a file; the items are known otherwise."""
        return {name: getattr(self, name).contiguous() for name in ("noise", "text", "images")}


@dataclass(frozen=True)
class ImageGenerator:
    """A model that can be edited while it generates."""

    study: Study
    engine: Engine

    def originals(self, items: Sequence[Item]) -> Originals:
        """Generate items without edits, in one batch."""
        n = len(items)
        kept: list[Tensor] = []

        def predict(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
            noise = self._unedited(latents, timestep, text)
            kept.append(torch.stack([noise[:n], noise[n:]], dim=1))
            return Prediction(noise, {})

        text = self.study.components.embed([item.prompt for item in items])
        images = self._generate(items, text, predict)
        return Originals(tuple(items), torch.stack(kept, dim=1), text.clone(), images.clone())

    def edited(
        self,
        arm: Arm,
        probes: StoredProbes,
        originals: Originals,
        target: Float[Tensor, "n k height width"],
    ) -> Float[Tensor, "n 3 height width"]:
        """Generate each row's item with the arm's edits towards the row's wanted target map."""
        n, numbers = len(originals.items), count()
        targets = self._token_targets(arm, probes, target)
        taps = [tap for tap in self.study.taps if tap.layer in arm.layers]
        first = min(arm.steps)

        def predict(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
            step = next(numbers)
            known = originals.noise[:, step]
            if step < first:
                return Prediction(torch.cat([known[:, 0], known[:, 1]]), {})
            if step not in arm.steps:
                return Prediction(self._unedited(latents, timestep, text), {})
            # The first edited step still sees the unedited latents.
            without = (
                known[:, 0] if step == first else self._unedited(latents[:n], timestep, text[:n])
            )
            edit = edit_at(arm, probes, step, originals.items, targets)
            with torch.no_grad(), editing(self.study.components.unet, taps, edit):
                given = predicted(
                    self.study.components.unet, latents[n:], torch.tensor(timestep), text[n:]
                )
            return Prediction(torch.cat([without, given]), {})

        return self._generate(originals.items, originals.text, predict)

    def _generate(
        self,
        items: Sequence[Item],
        text: Tensor,
        predict: Callable[[Tensor, float, Tensor], Prediction],
    ) -> Tensor:
        parts, study = self.study.components, self.study
        noise = initial_noise([item.seed for item in items], parts.latent_shape)
        scheduler = parts.scheduler(study.config.sampler_steps)
        *_, last = denoise(predict, scheduler, noise, text, parts.embed([""]), study.guidance)
        # An edit may be so strong that nothing finite comes out: a grey image, and scored as one.
        return parts.decode(last.latents).nan_to_num(0.5)

    def _unedited(self, latents: Tensor, timestep: float, text: Tensor) -> Tensor:
        return in_batches(self.engine, latents, timestep, text, self.study.config.batch).noise

    def _token_targets(
        self, arm: Arm, probes: StoredProbes, target: Tensor
    ) -> Mapping[int, Tensor]:
        sides = {probes.cell(layer, arm.steps[0]).side for layer in arm.layers}
        return {side: block_means(target, side).mT.float().contiguous() for side in sides}
