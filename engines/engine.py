"""The engine interface: latents, timestep and text in, noise prediction and every tap out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Tap:
    """A named internal activation: the output of the module at ``path`` inside the UNet."""

    layer: str
    """Short name, such as ``up2.1``."""
    path: str
    """Path, such as ``up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_out.0``."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Output of one engine call. The caller owns the tensors."""

    noise: Float[Tensor, "n c h w"]
    taps: dict[str, Float[Tensor, "n tokens channels"]]
    """By layer name, in the order in which the model computes them."""


@runtime_checkable
class Engine(Protocol):
    """An opened engine."""

    def __call__(
        self,
        latents: Float[Tensor, "n c h w"],
        timestep: float,
        text: Float[Tensor, "n words width"],
    ) -> Prediction:
        """Run the UNet once. SDXL's added conditions are further rows of ``text``."""
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
    """A way to execute a UNet: each file of ``engines/backends`` defines one as ``BACKEND``."""

    unavailable: Callable[[], str | None]
    """Returns the reason why it cannot be used here and what to install; None if it can."""
    open: Callable[[UNet2DConditionModel, Sequence[Tap], Path, int], Engine]
    """(unet, taps, cache folder, threads) -> engine."""
    precision: str = "fp32"
    """Precision of its arithmetic. Each has a backend of its own, so that no table mixes two."""
    device: str = "cpu"
    """torch device of its outputs; autoencoder, text encoders and statistics compute there too."""
    keeps_weights: bool = False
    """Whether an opened engine has its own copy of the UNet's weights."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to probe: each file or package of ``engines/models`` defines one as ``MODEL``."""

    source: str | Path
    """A diffusers folder or a hub id."""
    guidance: float
    """Default scale of classifier-free guidance."""
    labeler: str | None
    """Labeler for this model's images; None if none is set."""
