"""Generate images with and without edits.

The prompted half of a batch is edited in PyTorch; everything else runs on the run's own engine.
Steps before the first edit reuse the stored noise predictions of the unedited image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from bench.errors import UserError
from bench.interventions.arms import CONTROLNET, RANDOM, Arm, EditProbes, edit_at
from bench.interventions.controlnet import Steering
from bench.study import Study
from datasets.items import Item
from engines.conditioning import Conditioning
from engines.editing import editing
from engines.engine import Engine, Prediction
from extract.trajectory import Predict, denoise, in_batches, initial_noise

Edit = Callable[[str, Tensor], Tensor]
"""(layer, output) -> edited output."""
_GIVEN = "conditioning."
"""Prefix of stored conditioning tensors."""


@dataclass(frozen=True, slots=True)
class Originals:
    """The unedited images of n items, and the noise predictions of their trajectories."""

    items: tuple[Item, ...]
    noise: Float[Tensor, "n steps halves c h w"]
    """Predictions without and with the prompt; only with it where there is no second half."""
    conditioning: Conditioning
    images: Float[Tensor, "n 3 height width"]

    def take(self, rows: Sequence[int]) -> Originals:
        """Select rows, in that order; repeats are allowed."""
        at = torch.tensor(rows, dtype=torch.long)
        return Originals(
            tuple(self.items[row] for row in rows),
            self.noise[at],
            self.conditioning[at],
            self.images[at],
        )

    def __add__(self, other: Originals) -> Originals:
        """Concatenate."""
        return Originals(
            (*self.items, *other.items),
            torch.cat([self.noise, other.noise]),
            Conditioning.joined([self.conditioning, other.conditioning]),
            torch.cat([self.images, other.images]),
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name, to be stored; items are not included."""
        given = {_GIVEN + name: value for name, value in self.conditioning.tensors.items()}
        tensors = {"noise": self.noise, "images": self.images, **given}
        return {name: value.contiguous() for name, value in tensors.items()}

    @staticmethod
    def stored(items: Sequence[Item], tensors: Mapping[str, Tensor]) -> Originals:
        """Invert :meth:`tensors`."""
        given = {
            name.removeprefix(_GIVEN): value
            for name, value in tensors.items()
            if name.startswith(_GIVEN)
        }
        return Originals(tuple(items), tensors["noise"], Conditioning(given), tensors["images"])


@dataclass(frozen=True)
class ImageGenerator:
    """Generates images, with or without edits of the activations."""

    study: Study
    engine: Engine
    steering: Steering | None = None
    """A ControlNet of the model."""

    def originals(self, items: Sequence[Item]) -> Originals:
        """Generate items without edits, in one batch."""
        n = len(items)
        noises: list[Tensor] = []

        def predict(latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
            noise = self._unedited(latents, timestep, conditioning)
            noises.append(noise.unflatten(0, (-1, n)).transpose(0, 1))
            return Prediction(noise, {})

        conditioning = self.study.components.embed([item.prompt for item in items])
        images = self._generate(items, conditioning, predict)
        return Originals(tuple(items), torch.stack(noises, dim=1), conditioning, images.clone())

    def edited(
        self,
        arm: Arm,
        probes: EditProbes,
        originals: Originals,
        target: Float[Tensor, "n k height width"],
        numbers: Sequence[int] = (),
    ) -> Float[Tensor, "n 3 height width"]:
        """Generate each row's item with the arm's edits towards the row's target map.

        ``numbers`` are those of :func:`bench.interventions.arms.edit_at`.
        """
        if arm.method == CONTROLNET:
            return self._steered(arm, originals, target)
        targets = probes.targets(arm, target)

        def edit_of(step: int) -> Edit:
            return edit_at(arm, probes, step, originals.items, targets, numbers)

        return self.edited_by(arm.layers, arm.steps, originals, edit_of)

    def edited_by(
        self,
        layers: Sequence[str],
        steps: Sequence[int],
        originals: Originals,
        edit_of: Callable[[int], Edit],
    ) -> Float[Tensor, "n 3 height width"]:
        """Generate each row's item with the edit that ``edit_of`` returns for a step."""
        n, numbers = len(originals.items), count()
        taps = [tap for tap in self.study.taps if tap.layer in layers]
        denoiser, first = self.study.components.denoiser, min(steps)

        def predict(latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
            step = next(numbers)
            stored = originals.noise[:, step]
            if step < first:
                return Prediction(stored.transpose(0, 1).flatten(0, 1), {})
            if step not in steps:
                return Prediction(self._unedited(latents, timestep, conditioning), {})
            with torch.no_grad(), editing(denoiser, taps, edit_of(step)):
                prompted = denoiser(latents[-n:], torch.tensor(timestep), conditioning[-n:])
            if len(latents) == n:
                return Prediction(prompted, {})
            # The latents at the first edited step are those of the unedited image.
            without = (
                stored[:, 0]
                if step == first
                else self._unedited(latents[:n], timestep, conditioning[:n])
            )
            return Prediction(torch.cat([without, prompted]), {})

        return self._generate(originals.items, originals.conditioning, predict)

    def _steered(
        self, arm: Arm, originals: Originals, target: Float[Tensor, "n k height width"]
    ) -> Float[Tensor, "n 3 height width"]:
        """Generate each row's item with a ControlNet that is shown the row's target map."""
        if self.steering is None:
            raise UserError(f"the method {CONTROLNET} needs a ControlNet; name one's folder")
        steering, numbers = self.steering, count()
        condition = steering.condition(target)
        items = originals.items if arm.control == RANDOM else None

        def predict(latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
            step = next(numbers)
            if step < min(arm.steps):
                return Prediction(originals.noise[:, step].transpose(0, 1).flatten(0, 1), {})
            if step not in arm.steps:
                return Prediction(self._unedited(latents, timestep, conditioning), {})
            halves = len(latents) // len(condition)
            shown = condition.repeat(halves, 1, 1, 1)
            given = None if items is None else items * halves
            noise = steering.predict(latents, timestep, conditioning, shown, arm.strength, given)
            return Prediction(noise, {})

        return self._generate(originals.items, originals.conditioning, predict)

    def _generate(
        self,
        items: Sequence[Item],
        conditioning: Conditioning,
        predict: Predict,
    ) -> Tensor:
        parts, study = self.study.components, self.study
        noise = initial_noise([item.seed for item in items], parts.latent_shape)
        sampler, empty = parts.sampler(study.config.sampler_steps), parts.embed([""])
        *_, last = denoise(predict, sampler, noise, conditioning, empty, study.guidance)
        # Very strong edits give images that are not finite: they become grey and are scored so.
        return parts.decode(last.latents).nan_to_num(0.5)

    def _unedited(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Tensor:
        batch = self.study.config.batch
        return in_batches(self.engine, latents, timestep, conditioning, batch).noise.cpu()
