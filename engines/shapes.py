"""Networks on the meta device, for shapes and counts: no weights, no arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from engines.backends.torch_eager import recording_taps
from engines.silence import silenced

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.denoiser import Denoiser
    from engines.engine import Tap


def tap_shapes(
    denoiser: Denoiser, taps: Sequence[Tap], words: int
) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of one row of every tap, by layer, with ``words`` rows of text."""
    module, call = without_weights(denoiser, words)
    with recording_taps(module, taps) as outputs, torch.inference_mode():
        call()
    return {layer: tuple(output.shape[1:]) for layer, output in outputs.items()}


def without_weights(denoiser: Denoiser, words: int) -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return the denoiser's network on the meta device, and its call for one row."""
    kind: Any = type(denoiser.module)
    with silenced(), torch.device("meta"):
        # With gradients, torch's counter of operations fails where a module is called with a
        # parameter.
        module = kind.from_config(denoiser.config).eval().requires_grad_(False)
        without = denoiser.with_module(module)
        row, conditioning = without.example(1, words)
        timestep = torch.zeros(())
    return module, lambda: without(row, timestep, conditioning)


def decoder_without_weights(vae: Any) -> Any:
    """Return the autoencoder on the meta device."""
    with silenced(), torch.device("meta"):
        return type(vae).from_config(vae.config).eval()
