"""The mask of padded words as a bias that diffusers' attention adds to its scores."""

from __future__ import annotations

from jaxtyping import Float
from torch import SymInt, Tensor

_HIDDEN = -10000.0
"""As diffusers' transformers do: added to the scores of words that are padding."""


def attention_bias(
    mask: Float[Tensor, "n words"], rows: int | SymInt, heads: int
) -> Float[Tensor, "rows_x_heads 1 words"]:
    """Zero for words, and a large negative number for padding, once per head of every row.

    diffusers repeats a mask per head with an operation that the ONNX exporter cannot follow; rows
    that are repeated already are left as they are. ``rows`` is the number of latents: the exporter
    must know that the mask has as many.
    """
    bias = (1 - mask) * _HIDDEN
    return bias[:, None, None, :].expand(rows, heads, -1, -1).flatten(0, 1)
