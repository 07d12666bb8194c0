"""What is watched along a trajectory: a watch gives, at every step, the activations of one network by layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from engines.components import Components
from engines.decoder import decoder_activations
from engines.engine import Engine, Prediction
from engines.errors import EngineError
from extract.networks import DECODED_LAYERS
from extract.taps import tap_of_convolution
from extract.trajectory import Step, denoise, in_batches

Watch = Callable[[Step], Mapping[str, Tensor]]
"""A step's activations (n tokens channels) by layer; called once per step, in order."""

_PATCH = 3


@dataclass(frozen=True, slots=True)
class Start:
    """What the trajectory of one block starts from."""

    noise: Float[Tensor, "n c h w"]
    text: Float[Tensor, "n words width"]
    empty: Float[Tensor, "1 words width"]


@dataclass(frozen=True, slots=True)
class ActivationSource:
    """Something to watch: :attr:`begin` makes a fresh watch for every block."""

    begin: Callable[[Start], Watch]
    rows: int = 0
    """Engine rows per image and step, for the table of costs; 0 where there is nothing to speak of."""
    fitted: bool = True
    """Whether probes are fit to it. If not, it is watched on test images only."""
    every_step: bool = False
    """Whether it computes the steps that nobody looks at, too, on its way to the next one."""

    def rows_between(self, last: int, step: int) -> int:
        """Rows per image that a look at ``step`` takes when the look before was at ``last``, -1 for none."""
        return self.rows * (step - last if self.every_step else 1)

    def rows_of(self, probed_steps: Collection[int]) -> int:
        """Rows per image that looks at all of these steps take."""
        last = (-1, *sorted(probed_steps))
        return sum(self.rows_between(before, step) for before, step in pairwise(last))


def latent() -> ActivationSource:
    """What the network is given: every latent pixel with its 3 x 3 neighbourhood, a stronger baseline than alone."""
    return ActivationSource(lambda _: lambda step: {"latent": patches(step.model_input)})


def conditional(layers: Collection[str]) -> ActivationSource:
    """The network that generates, on the half of the batch that is given the prompt."""
    return ActivationSource(lambda _: lambda step: _chosen(step.prediction.taps, layers))


def unconditional(layers: Collection[str]) -> ActivationSource:
    """The network that generates, on the half of the batch that is given no prompt, with the same latents."""

    def look(step: Step) -> Mapping[str, Tensor]:
        if step.without is None:
            raise EngineError(
                "images that are noised, not generated, have no unconditional branch to watch"
            )
        return _chosen(step.without.taps, layers)

    return ActivationSource(lambda _: look)


def text(further_rows: int = 0) -> ActivationSource:
    """The prompt alone: the mean of its word embeddings, at every token of a grid of half the latents' side.

    ``further_rows`` of the text, its last, are no words.
    """

    def begin(start: Start) -> Watch:
        tokens = start.noise.shape[-1] * start.noise.shape[-2] // 4
        words = start.text[:, : start.text.shape[1] - further_rows]
        pooled = words.mean(1, keepdim=True).expand(-1, tokens, -1).contiguous()
        return lambda _: {"pooled": pooled}

    return ActivationSource(begin)


def matched(engine: Engine, layers: Collection[str], batch: int) -> ActivationSource:
    """Another network on the trained model's own latents: it sees what the trained one sees."""

    def look(step: Step) -> Mapping[str, Tensor]:
        return _chosen(
            in_batches(engine, step.model_input, step.timestep, step.text, batch).taps, layers
        )

    return ActivationSource(lambda _: look, rows=1)


def own(
    engine: Engine,
    layers: Collection[str],
    batch: int,
    parts: Components,
    steps: int,
    guidance: float,
) -> ActivationSource:
    """Another network along the trajectory that it generates itself, from the same noise and prompt."""

    def begin(start: Start) -> Watch:
        def predict(latents: Tensor, timestep: float, words: Tensor) -> Prediction:
            return in_batches(engine, latents, timestep, words, batch)

        trajectory = denoise(
            predict, parts.scheduler(steps), start.noise, start.text, start.empty, guidance
        )
        return lambda step: _chosen(_at(trajectory, step.index).prediction.taps, layers)

    return ActivationSource(begin, rows=2, every_step=True)


def convolution(layers: Collection[str]) -> ActivationSource:
    """The residual blocks of the network that generates, from the same call as its attention."""
    names = {tap_of_convolution(layer): layer for layer in layers}

    def look(step: Step) -> Mapping[str, Tensor]:
        return {
            names[name]: activation
            for name, activation in step.prediction.taps.items()
            if name in names
        }

    return ActivationSource(lambda _: look)


def decoder(parts: Components) -> ActivationSource:
    """The autoencoder's decoder, given the partly denoised latents of each step."""
    return ActivationSource(lambda _: lambda step: decoder_activations(parts, step.latents), rows=1)


def decoded(parts: Components, read: Callable[[Tensor], Tensor]) -> ActivationSource:
    """What ``read`` sees (n tokens channels) in the image decoded at each step, noisy and as the network predicts it.

    No probe is fit: the labeler that labels the finished image looks at the unfinished one.
    """

    def look(step: Step) -> Mapping[str, Tensor]:
        return dict(
            zip(
                DECODED_LAYERS,
                (read(parts.decode(z)) for z in (step.latents, step.clean)),
                strict=True,
            )
        )

    return ActivationSource(lambda _: look, rows=2, fitted=False)


def _at(trajectory: Iterator[Step], index: int) -> Step:
    """Go on to a step: not every step is looked at."""
    return next(step for step in trajectory if step.index == index)


def _chosen(taps: Mapping[str, Tensor], layers: Collection[str]) -> dict[str, Tensor]:
    return {layer: taps[layer] for layer in taps if layer in layers}


def patches(latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n tokens channels"]:
    """The 3 x 3 neighbourhood of every latent pixel as its features."""
    return functional.unfold(latents, _PATCH, padding=_PATCH // 2).mT.contiguous()
