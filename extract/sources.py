"""Sources of activations: what is recorded along a trajectory, one network by layer each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engines.components import Components
from engines.conditioning import MASK, TEXT, Conditioning
from engines.decoder import decoder_activations
from engines.engine import Engine, Prediction, tap_of_convolution
from engines.errors import EngineError
from extract.networks import DECODED_LAYERS
from extract.trajectory import Step, denoise, in_batches

StepReader = Callable[[Step], Mapping[str, Tensor]]
"""Returns a step's activations (n tokens channels) by layer; called with the steps in order."""

_PATCH = 3


@dataclass(frozen=True, slots=True)
class Start:
    """The inputs from which the trajectory of one block starts."""

    noise: Float[Tensor, "n c h w"]
    conditioning: Conditioning
    empty: Conditioning
    """Of an empty prompt, in one row."""


@dataclass(frozen=True, slots=True)
class ActivationSource:
    """One network to record; :attr:`begin` returns a new reader of its activations per block."""

    begin: Callable[[Start], StepReader]
    rows: int = 0
    """Engine rows per image and step, for the table of costs; 0 if the cost is negligible."""
    fitted: bool = True
    """Whether probes are fit to it. If not, it is recorded on test images only."""
    every_step: bool = False
    """Whether reading a step also computes all steps since the last step that was read."""

    def rows_between(self, last: int, step: int) -> int:
        """Rows per image to read ``step`` after ``last``, which is -1 for the first reading."""
        return self.rows * (step - last if self.every_step else 1)

    def rows_of(self, probed_steps: Collection[int]) -> int:
        """Rows per image to read all of these steps."""
        last = (-1, *sorted(probed_steps))
        return sum(self.rows_between(before, step) for before, step in pairwise(last))


def latent() -> ActivationSource:
    """The network's input: every latent pixel with its 3 x 3 neighbourhood.

    The neighbourhood makes a stronger baseline than the pixel alone.
    """
    return ActivationSource(lambda _: lambda step: {"latent": patches(step.model_input)})


def clean_latent() -> ActivationSource:
    """The predicted clean latents (x0 prediction): every pixel with its 3 x 3 neighbourhood.

    They are what the predicted clean image is decoded from, with guidance.
    """
    return ActivationSource(lambda _: lambda step: {"predicted": patches(step.clean)})


def conditional(layers: Collection[str]) -> ActivationSource:
    """The generating network, on the conditional half of the batch."""
    return ActivationSource(lambda _: lambda step: _select(step.prediction.taps, layers))


def unconditional(layers: Collection[str]) -> ActivationSource:
    """The generating network, on the unconditional half of the batch, with the same latents."""

    def read(step: Step) -> Mapping[str, Tensor]:
        if step.unconditional is None:
            raise EngineError(
                "images that are noised, not generated, have no unconditional branch to record"
            )
        return _select(step.unconditional.taps, layers)

    return ActivationSource(lambda _: read)


def text() -> ActivationSource:
    """The prompt alone: its mean word embedding at every token of a grid of half the latents.

    Of a text with a mask, the mean is over the rows that the denoiser reads, without the padding.
    Latents with an odd number of rows or columns have no half; their grid is that of the latents.
    """

    def begin(start: Start) -> StepReader:
        rows, columns = start.noise.shape[-2:]
        tokens = rows * columns // (1 if rows % 2 or columns % 2 else 4)
        words = start.conditioning[TEXT]
        mask = start.conditioning.tensors.get(MASK)
        if mask is None:
            mean = words.mean(1, keepdim=True)
        else:
            read = mask.to(words)[..., None]
            mean = (words * read).sum(1, keepdim=True) / read.sum(1, keepdim=True).clamp(min=1)
        pooled = mean.expand(-1, tokens, -1).contiguous()
        return lambda _: {"pooled": pooled}

    return ActivationSource(begin)


def matched(engine: Engine, layers: Collection[str], batch: int) -> ActivationSource:
    """Another network, on the latents of the trained model's trajectory."""

    def read(step: Step) -> Mapping[str, Tensor]:
        prediction = in_batches(engine, step.model_input, step.timestep, step.conditioning, batch)
        return _select(prediction.taps, layers)

    return ActivationSource(lambda _: read, rows=1)


def own(
    engine: Engine,
    layers: Collection[str],
    batch: int,
    parts: Components,
    steps: int,
    guidance: float | None,
) -> ActivationSource:
    """Another network, on the trajectory that it generates from the same noise and prompt."""

    def begin(start: Start) -> StepReader:
        def predict(latents: Tensor, timestep: float, words: Conditioning) -> Prediction:
            return in_batches(engine, latents, timestep, words, batch)

        trajectory = denoise(
            predict, parts.sampler(steps), start.noise, start.conditioning, start.empty, guidance
        )
        return lambda step: _select(_advance(trajectory, step.index).prediction.taps, layers)

    return ActivationSource(begin, rows=1 if guidance is None else 2, every_step=True)


def convolution(layers: Collection[str]) -> ActivationSource:
    """The residual blocks of the generating network, from the same call as its attention."""
    layer_of_tap = {tap_of_convolution(layer): layer for layer in layers}

    def read(step: Step) -> Mapping[str, Tensor]:
        return {
            layer_of_tap[tap]: activation
            for tap, activation in step.prediction.taps.items()
            if tap in layer_of_tap
        }

    return ActivationSource(lambda _: read)


def decoder(parts: Components) -> ActivationSource:
    """The autoencoder's decoder, applied to the partly denoised latents of each step."""
    return ActivationSource(lambda _: lambda step: decoder_activations(parts, step.latents), rows=1)


def decoded(parts: Components, label: Callable[[Tensor], Tensor]) -> ActivationSource:
    """The labeler's maps ``label(image)`` (n tokens channels) of the images decoded at each step.

    The images are those of the partly denoised and of the predicted clean latents. No probe is fit.
    """

    def read(step: Step) -> Mapping[str, Tensor]:
        maps = (
            label(parts.decode(latents)).to(latents.device)
            for latents in (step.latents, step.clean)
        )
        return dict(zip(DECODED_LAYERS, maps, strict=True))

    return ActivationSource(lambda _: read, rows=2, fitted=False)


def _advance(trajectory: Iterator[Step], index: int) -> Step:
    """Run the trajectory on to a step; steps that are not probed are skipped."""
    return next(step for step in trajectory if step.index == index)


def _select(taps: Mapping[str, Tensor], layers: Collection[str]) -> dict[str, Tensor]:
    return {layer: taps[layer] for layer in taps if layer in layers}


def patches(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens channels"]:
    """The zero-padded 3 x 3 neighbourhood of every latent pixel, as features."""
    return functional.unfold(latents, _PATCH, padding=_PATCH // 2).mT.contiguous()
