"""What an engine is: latents, a timestep and a text embedding in; the noise prediction and every tap out."""

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
    """Short name for people, such as ``up2.1``."""
    path: str
    """Module path, such as ``up_blocks.2.attentions.1.transformer_blocks.0.attn1.to_out.0``."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one call of an engine gives. The caller owns the tensors."""

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
        """Run the UNet once; what SDXL's reads of a prompt beside its words are further rows of ``text``."""
        ...


@runtime_checkable
class Sized(Protocol):
    """An engine that is built for a number of rows, and built anew, which takes long, when a call has more."""

    def reserve(self, rows: int) -> None:
        """Expect calls of up to ``rows`` rows."""
        ...


def reserved(engine: Engine, rows: int) -> Engine:
    """The engine, told how many rows its calls will have at most if it wants to know."""
    if isinstance(engine, Sized):
        engine.reserve(rows)
    return engine


@dataclass(frozen=True, slots=True)
class Backend:
    """A way to execute a UNet. A file of ``engines/backends`` is one: it names this as ``BACKEND``."""

    unavailable: Callable[[], str | None]
    """Why it cannot be used here, in a sentence that says what to install; None if it can."""
    open: Callable[[UNet2DConditionModel, Sequence[Tap], Path, int], Engine]
    """(unet, taps, cache folder, threads) -> engine. The folder holds what is worth keeping between runs."""
    precision: str = "fp32"
    """What it computes in. Another precision is another backend, so that no table mixes two."""
    device: str = "cpu"
    """Where its outputs are born, as torch names it; autoencoder, text encoders and statistics compute there, too."""
    keeps_weights: bool = False
    """Whether an opened engine has weights of its own and needs those of the UNet that it was made from no more."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model to probe. A file or package of ``engines/models`` is one: it names this as ``MODEL``."""

    source: str | Path
    """A diffusers folder or a hub id."""
    guidance: float
    """Default strength of classifier-free guidance."""
    labeler: str | None
    """The labeler whose reading of this model's images is worth probing for; None where nobody has said."""
