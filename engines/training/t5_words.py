"""A T5 tokenizer whose pieces are the words of the prompts, and single letters for every other text."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

SPACE = "\u2581"
"""How sentencepiece writes the space before a word."""


def make_t5_tokenizer(prompts: Iterable[str]) -> Any:
    """A ``T5Tokenizer`` that keeps each word of ``prompts`` whole (lower case)."""
    from transformers import T5Tokenizer

    words = sorted({word for prompt in prompts for word in prompt.lower().split()})
    letters = [SPACE, *string.ascii_lowercase, *string.digits, *",.'-"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(SPACE + word, -1.0) for word in words]
    taken = {piece for piece, _ in vocabulary}
    vocabulary += [(letter, -10.0) for letter in letters if letter not in taken]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    torn = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if torn:
        raise ValueError(f"the tokenizer tears these words apart: {', '.join(torn)}")
    return tokenizer
