"""The network that predicts noise, velocity or the clean latent, in the form that engines run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engines.conditioning import WORDS, Conditioning, Inputs

Predict = Callable[[nn.Module, Tensor, Tensor, Conditioning], Tensor]
"""(network, latents, timestep without axes, conditioning) -> prediction, shaped as the latents."""


@dataclass(frozen=True, slots=True)
class Denoiser:
    """A network with its family's way to call it.

    Latents are image-shaped whatever the network reads: packing into tokens is part of the call.
    """

    module: nn.Module
    predict: Predict
    latent_shape: tuple[int, int, int]
    """Channels, rows and columns of a latent."""
    inputs: Inputs
    """The conditioning tensors that the network reads."""

    def __call__(
        self, latents: Float[Tensor, "n c h w"], timestep: Tensor, conditioning: Conditioning
    ) -> Float[Tensor, "n c h w"]:
        """Predict once; gradients flow unless the caller disables them."""
        return self.predict(self.module, latents, timestep, conditioning)

    @property
    def config(self) -> Any:
        """The network's diffusers configuration."""
        return self.module.config

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.module.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.module.parameters()).dtype

    def with_module(self, module: nn.Module) -> Denoiser:
        """The same call of another network of this architecture."""
        return replace(self, module=module)

    def copied(self) -> Denoiser:
        """A deep copy."""
        return self.with_module(copy.deepcopy(self.module))

    def half(self) -> Denoiser:
        """A copy in half precision."""
        return self.with_module(copy.deepcopy(self.module).half())

    def example(
        self, rows: int, words: int, device: torch.device | None = None
    ) -> tuple[Tensor, Conditioning]:
        """Latents of zeros and conditioning of ones, in the shapes and precision of a call."""
        device = self.device if device is None else device
        return (
            torch.zeros(rows, *self.latent_shape, device=device, dtype=self.dtype),
            Conditioning(
                {
                    name: torch.ones(
                        rows,
                        *(words if size == WORDS else int(size) for size in shape),
                        device=device,
                        dtype=self.dtype,
                    )
                    for name, shape in self.inputs.items()
                }
            ),
        )
