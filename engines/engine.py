"""The engine interface: latents, timestep and conditioning in, prediction and every tap out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from engines.errors import EngineError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from engines.conditioning import Conditioning
    from engines.denoiser import Denoiser


ATTENTION = "attention"
CONVOLUTION = "convolution"
RESIDUAL = "residual"
FEED_FORWARD = "feed-forward"
QUERY, KEY, VALUE = "query", "key", "value"
TEXT_STREAM = "text"
GATED = "gated"
KINDS = (ATTENTION, RESIDUAL, FEED_FORWARD, QUERY, KEY, VALUE, GATED, TEXT_STREAM)
"""Kinds of activations that a run can record; a family may lack some."""
_PREFIX = "conv."


@dataclass(frozen=True, slots=True)
class Tap:
    """A named internal activation: what passes through the module at ``path`` of the denoiser."""

    layer: str
    """Short name, such as ``up2.1``."""
    path: str
    """Path, such as ``up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_out.0``."""
    port: Literal["output", "input"] = "output"
    """Whether the module's output is recorded, or the first input of its call."""
    element: int = 0
    """Index of the tensor where the module gives several."""
    last: int | None = None
    """Tokens of the image, at the end of a sequence that begins with the text; None if all are."""
    text: bool = False
    """Whether the mean over the text's tokens is recorded, which has no place in the image."""
    minus: str | None = None
    """Path of a module whose first input is subtracted, so that what lies between is recorded."""

    def read(self, passing: Tensor | tuple[Tensor, ...]) -> Float[Tensor, "n tokens channels"]:
        """The activation in what passes through the module: a convolution's pixels are tokens."""
        whole = passing if not isinstance(passing, tuple) else passing[self.element]
        tokens = whole.flatten(2).mT if whole.ndim == 4 else whole
        if self.text:
            words = tokens if self.last is None else tokens[:, : -self.last]
            return words.mean(1, keepdim=True)
        return tokens if self.last is None else tokens[:, -self.last :]

    def replace(
        self, passing: Tensor | tuple[Tensor, ...], tokens: Float[Tensor, "n tokens channels"]
    ) -> Tensor | tuple[Tensor, ...]:
        """What passes through the module with other tokens in place of :meth:`read`'s.

        Raises EngineError for a tap that records no part of what passes, but a mean or difference.
        """
        if self.text or self.minus:
            raise EngineError(
                f"{self.layer} is {'a mean over words' if self.text else 'a difference'}, which "
                "cannot be edited; edit attention, residual or feed-forward"
            )
        if isinstance(passing, tuple):
            whole = self.replace(passing[self.element], tokens)
            assert not isinstance(whole, tuple)
            return (*passing[: self.element], whole, *passing[self.element + 1 :])
        if passing.ndim == 4:
            pixels: Tensor = tokens.mT.unflatten(2, passing.shape[2:])
            return pixels
        if self.last is None:
            return tokens
        import torch

        return torch.cat([passing[:, : passing.shape[1] - self.last], tokens], dim=1)


def tap_of_convolution(layer: str) -> str:
    """The tap name of a convolution; its prefix tells it from the attention of the same layer."""
    return _PREFIX + layer


def layer_of_convolution(tap: Tap) -> str:
    """Invert :func:`tap_of_convolution`."""
    return tap.layer.removeprefix(_PREFIX)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Output of one engine call. The caller owns the tensors."""

    noise: Float[Tensor, "n c h w"]
    """What the denoiser predicts: noise, or whatever its sampler expects, such as a velocity."""
    taps: dict[str, Float[Tensor, "n tokens channels"]]
    """By layer name, in the order in which the model computes them."""

    def cpu(self) -> Prediction:
        """The same on the CPU in fp32, sharing memory if they are there already."""
        taps = {layer: activation.cpu().float() for layer, activation in self.taps.items()}
        return Prediction(self.noise.cpu().float(), taps)


@runtime_checkable
class Engine(Protocol):
    """An opened engine."""

    def __call__(
        self,
        latents: Float[Tensor, "n c h w"],
        timestep: float,
        conditioning: Conditioning,
    ) -> Prediction:
        """Run the denoiser once."""
        ...


@runtime_checkable
class Sized(Protocol):
    """An engine built for a number of rows; a call with more rows rebuilds it, which is slow."""

    def reserve(self, rows: int) -> None:
        """Expect calls of up to ``rows`` rows."""
        ...


def reserved(engine: Engine, rows: int) -> Engine:
    """Return ``engine``, prepared for calls of up to ``rows`` rows if its kind needs that."""
    if isinstance(engine, Sized):
        engine.reserve(rows)
    return engine


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to execute a denoiser: each file of ``engines/backends`` defines one as ``BACKEND``."""

    unavailable: Callable[[], str | None]
    """Returns the reason why it cannot be used here and what to install; None if it can."""
    open: Callable[[Denoiser, Sequence[Tap], Path, int], Engine]
    """(denoiser, taps, cache folder, threads) -> engine."""
    precision: str = "fp32"
    """Precision of its arithmetic. Each has a backend of its own, so that no table mixes two."""
    device: str = "cpu"
    """torch device of its outputs; autoencoder, text encoders and statistics compute there too."""
    keeps_weights: bool = False
    """Whether an opened engine has its own copy of the denoiser's weights."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to probe: each file or package of ``engines/models`` defines one as ``MODEL``."""

    source: str | Path
    """A diffusers folder or a hub id."""
    guidance: float | None
    """Default scale of guidance; None for its family's."""
    labeler: str | None
    """Labeler for this model's images; None if none is set."""
    architecture: Path | None = None
    """A folder of its configurations, for plans and random weights without its files."""
