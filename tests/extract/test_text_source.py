"""The control of the prompt alone, of a text with a mask."""

from __future__ import annotations

from typing import Any

import torch

from engines.conditioning import MASK, TEXT, Conditioning
from extract.sources import Start, text


def test_padding_is_no_part_of_the_mean() -> None:
    words = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0]])
    given = Conditioning({TEXT: words, MASK: mask})
    read: Any = text().begin(Start(torch.zeros(2, 4, 4, 4), given, given[:1]))
    pooled = read(None)["pooled"]
    assert pooled.shape == (2, 4, 3)
    expected = torch.stack([words[0, :2].mean(0), words[1, 0]])
    torch.testing.assert_close(pooled, expected[:, None].expand(-1, 4, -1))
