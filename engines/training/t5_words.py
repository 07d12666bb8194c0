"""A T5 tokenizer of the prompts' words; it splits any other text into letters."""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

SPACE = "\u2581"
"""The mark that sentencepiece puts before a word."""


def make_t5_tokenizer(prompts: Iterable[str]) -> Any:
    """Return a ``T5Tokenizer`` with one token for each word of ``prompts``, in lower case.

    Raises ValueError if a word takes more than one token.
    """
    from transformers import T5Tokenizer

    words = sorted({word for prompt in prompts for word in prompt.lower().split()})
    letters = [SPACE, *string.ascii_lowercase, *string.digits, *",.'-"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [(SPACE + word, -1.0) for word in words]
    pieces = {piece for piece, _ in vocabulary}
    vocabulary += [(letter, -10.0) for letter in letters if letter not in pieces]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0)
    split = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if split:
        raise ValueError(f"the tokenizer splits these words: {', '.join(split)}")
    return tokenizer
