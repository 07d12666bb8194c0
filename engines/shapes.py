"""Networks on the meta device, for shapes and counts: no weights, no arithmetic.

Both follow from the configuration alone, so a process computes them once per architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from engines.backends.torch_eager import recording_taps
from engines.cache import hash_of_config
from engines.silence import silenced

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.denoiser import Denoiser
    from engines.engine import Tap


_SHAPES: dict[Hashable, dict[str, tuple[int, ...]]] = {}
_DECODED: dict[Hashable, tuple[int, ...]] = {}


def architecture_key(denoiser: Denoiser, taps: Sequence[Tap], words: int) -> Hashable:
    """Return what shapes and counts of a denoiser depend on."""
    inputs = tuple((name, tuple(shape)) for name, shape in denoiser.inputs.items())
    kind, config = type(denoiser.module), hash_of_config(denoiser.config)
    return kind, config, denoiser.predict, denoiser.latent_shape, inputs, tuple(taps), words


def tap_shapes(
    denoiser: Denoiser, taps: Sequence[Tap], words: int
) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of one row of every tap, by layer, with ``words`` rows of text."""
    key = architecture_key(denoiser, taps, words)
    if key not in _SHAPES:
        module, call = without_weights(denoiser, words)
        with recording_taps(module, taps) as outputs, torch.inference_mode():
            call()
        _SHAPES[key] = {layer: tuple(output.shape[1:]) for layer, output in outputs.items()}
    return dict(_SHAPES[key])


def decoded_shape(vae: Any, latent_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the shape of the image that an autoencoder makes of one latent."""
    key = type(vae), hash_of_config(vae.config), latent_shape
    if key not in _DECODED:
        without = decoder_without_weights(vae)
        with torch.inference_mode():
            image = without.decode(torch.zeros(1, *latent_shape, device="meta"))
        _DECODED[key] = tuple(image.sample.shape[1:])
    return _DECODED[key]


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
