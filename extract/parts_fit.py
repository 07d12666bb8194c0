"""Do the parts of a model fit each other at the size of its images? No weights are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from datasets.grid import Grid
from engines.components import Components
from engines.engine import Tap
from engines.errors import EngineError
from engines.shapes import decoded_shape, tap_shapes
from engines.validate import quoted


def check_parts_fit(parts: Components, taps: Sequence[Tap]) -> None:
    """Check that all parts fit each other at the size of the images.

    Raises EngineError that names both sides: if the denoiser cannot take the latents or the text,
    if the tokens of a tap form no grid over the latents, or if the autoencoder makes images of
    another size.
    """
    height, width = parts.latent_shape[1:]
    shapes = _within(
        f"the denoiser takes no latents of {height} x {width} with the text encoders' words",
        lambda: tap_shapes(parts.denoiser, taps, parts.family.words(parts)),
    )
    for layer, shape in shapes.items():
        if len(shape) != 2:
            raise EngineError(
                f"the layer {layer} gives values of shape {' x '.join(map(str, shape))} per row, "
                "and tokens x channels are read; choose other --layers or --taps"
            )
        try:
            Grid.of(shape[0], height, width)
        except ValueError as error:
            raise EngineError(
                f"the layer {layer} cannot be read per token: {error} latents; "
                "choose another --size, or other --layers"
            ) from error
    made = _within(
        f"the autoencoder decodes no latents of {height} x {width}",
        lambda: decoded_shape(parts.vae, parts.latent_shape),
    )
    if made != (3, *parts.image_size):
        raise EngineError(
            f"the autoencoder makes images of {' x '.join(map(str, made))} from latents of "
            f"{height} x {width}, and 3 x {' x '.join(map(str, parts.image_size))} are expected; "
            "check the model's vae"
        )


def _within(what: str, call: Callable[[], Any]) -> Any:
    """Call, and pass on an error of sizes as one sentence that begins with ``what``.

    torch raises RuntimeError for sizes that do not fit, diffusers ValueError. Other errors, such as
    an operation that has no shapes without weights, are faults of the code.
    """
    try:
        return call()
    except NotImplementedError:
        raise
    except (RuntimeError, ValueError) as error:
        raise EngineError(
            f"{what}: {quoted(error)}; choose another --size, or check the model's configurations"
        ) from error
