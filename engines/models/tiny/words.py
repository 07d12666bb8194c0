"""The shipped model's tokenizer: CLIP's byte-level scheme with merges that make each word of the prompts one token.

Any other text still tokenizes (every byte is in the vocabulary), it only takes more tokens.
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
    """A tokenizer whose merges build every word of ``prompts``."""
    # Long words first: merges apply in this order, and "an" would otherwise tear "cyan" apart.
    words = sorted(
        {word for prompt in prompts for word in prompt.lower().split()},
        key=lambda word: (-len(word), word),
    )
    pieces = sorted(ByteLevel.alphabet())
    vocabulary = pieces + [piece + _WORD_END for piece in pieces]
    merges: list[tuple[str, str]] = []
    for word in words:
        left = word[0]
        for at, letter in enumerate(word[1:], start=2):
            right = letter + (_WORD_END if at == len(word) else "")
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
    torn = [word for word in words if len(tokenizer.tokenize(word)) != 1]
    if torn:
        raise ValueError(f"the merges tear these words apart: {', '.join(torn)}")
    return tokenizer


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer saved in ``folder``."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, CLIPTokenizer)
    return tokenizer
