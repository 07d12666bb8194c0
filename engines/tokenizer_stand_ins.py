"""Tokenizers for architectures that are kept without vocabularies.

They split text into tokens of the kind that an encoder reads, but into other words than the
published tokenizers: enough for random weights, whose words mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engines.configurations import read_object
from engines.errors import EngineError
from engines.family import Family

_ENGINES = Path(__file__).parent
_T5 = _ENGINES / "zoo" / "dit-noise-0" / "tokenizer"
_PRINTABLE = range(33, 127)


def add_tokenizers(folder: Path, family: Family, words: Path) -> None:
    """Write a stand-in for every tokenizer of the model in ``folder``.

    CLIP's is the one in ``words``, T5's that of a shipped model, and Gemma's has one token per
    printable character. Raises EngineError for a tokenizer of another kind.
    """
    index = read_object(folder / "model_index.json")
    kinds: Mapping[str, Callable[[], Any]] = {
        "CLIPTokenizer": lambda: _shipped(words),
        "T5Tokenizer": lambda: _shipped(_T5),
        "GemmaTokenizer": _characters,
    }
    for part in family.present(index):
        if part not in family.tokenizers:
            continue
        kind = family.tokenizers[part][0]
        if kind not in kinds:
            raise EngineError(
                f"there is no stand-in for a {kind}; give the model's local folder with --model"
            )
        tokenizer = kinds[kind]()
        encoder = folder / part.replace("tokenizer", "text_encoder") / "config.json"
        # T5 reads texts of any length; its configuration has no such entry.
        if longest := read_object(encoder).get("max_position_embeddings"):
            tokenizer.model_max_length = int(longest)
        tokenizer.save_pretrained(folder / part)


def _shipped(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _characters() -> Any:
    from transformers import GemmaTokenizer

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "\u2581"]
    vocabulary = [*special, *(chr(code) for code in _PRINTABLE)]
    return GemmaTokenizer(vocab={word: n for n, word in enumerate(vocabulary)}, merges=[])
