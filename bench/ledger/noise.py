"""Noise levels of a sampler's steps, as log-SNR: comparable between samplers, unlike steps."""

from __future__ import annotations

from math import log
from typing import Any

_FLOW = "FlowMatch"
"""The beginning of the names of diffusers' samplers of rectified flow."""


def log_snr(sampler: Any, steps: int) -> tuple[float | None, ...]:
    """Return the log of the signal-to-noise ratio before each of the first ``steps`` steps.

    Noisy latents are x + sigma e, with the ratio 1 / sigma^2, and (1 - sigma) x + sigma e for
    rectified flow, with ((1 - sigma) / sigma)^2; x is the clean latent and e unit noise. None is
    an infinite one.
    """
    sigmas = [float(sigma) for sigma in sampler.sigmas[:steps]]
    if type(sampler).__name__.startswith(_FLOW):
        return tuple(_log_of_square(1 - sigma, sigma) for sigma in sigmas)
    return tuple(_log_of_square(1, sigma) for sigma in sigmas)


def _log_of_square(signal: float, noise: float) -> float | None:
    return 2 * log(signal / noise) if signal > 0 and noise > 0 else None
