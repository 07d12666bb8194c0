"""The shipped model's tokenizer: CLIP's byte-level scheme with one token per word of the prompts.

Any other text takes more tokens: every byte is in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from engines.models.tiny.architecture import MAX_TOKENS

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"


def make_tokenizer(prompts: Iterable[str]) -> CLIPTokenizer:
    """Return a tokenizer whose merges build every word of ``prompts``.

    Raises ValueError if a word takes more than one token.
    """
    # Long words first: merges apply in this order, and "an" would otherwise split "cyan".
    words = sorted(
        {word for prompt in prompts for word in prompt.lower().split()},
        key=lambda word: (-len(word), word),
    )
    pieces = sorted(ByteLevel.alphabet())
    vocabulary = pieces + [piece + _WORD_END for piece in pieces]
    merges: list[tuple[str, str]] = []
    for word in words:
        left = word[0]
        for length, letter in enumerate(word[1:], start=2):
            right = letter + (_WORD_END if length == len(word) else "")
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in vocabulary:
                vocabulary.append(left)
    vocabulary += [START, END]
    tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,
        model_max_length=MAX_TOKENS,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=END,
    )
    split = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if split:
        raise ValueError(f"the merges split these words: {', '.join(split)}")
    return tokenizer


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer saved in ``folder``."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, CLIPTokenizer)
    return tokenizer
