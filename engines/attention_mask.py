"""The mask of padded words as a bias that diffusers' attention adds to its scores."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

_HIDDEN = -10000.0
"""As diffusers' transformers do: added to the scores of words that are padding."""


def attention_bias(mask: Float[Tensor, "n words"], heads: int) -> Float[Tensor, "rows 1 words"]:
    """Zero for words, and a large negative number for padding; n x heads rows.

    diffusers repeats a mask per head with an operation that the ONNX exporter cannot follow; rows
    that are repeated already are left as they are.
    """
    bias = (1 - mask) * _HIDDEN
    return bias[:, None, None, :].expand(-1, heads, -1, -1).flatten(0, 1)
