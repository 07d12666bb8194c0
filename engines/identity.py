"""Hashes of what a model's configurations, tokenizers and settings say, beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from engines.cache import hash_of_config, key_of
from engines.components import Components

_OF_A_CALL = ("truncation", "padding")
"""Parts of a tokenizer that its last call leaves behind."""


def configuration_hashes(parts: Components) -> dict[str, str]:
    """Return a hash per part of the model that determines its outputs together with its weights.

    Two folders with the same weights differ where a configuration, a vocabulary or a setting of the
    model's index differs.
    """
    networks = {name: _of_network(network) for name, network in parts.networks.items()}
    tokenizers = {name: _of_tokenizer(tokenizer) for name, tokenizer in parts.tokenizers.items()}
    settings = key_of({name: str(value) for name, value in parts.settings.items()})
    return {**networks, **tokenizers, "settings": settings}


def _of_network(network: Any) -> str:
    config = network.config
    stated: Mapping[str, Any] = config if isinstance(config, Mapping) else config.to_dict()
    return hash_of_config({"class": type(network).__name__, **stated})


def _of_tokenizer(tokenizer: Any) -> str:
    facts: dict[str, Any] = {"special": {k: str(v) for k, v in _special(tokenizer).items()}}
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        facts["vocabulary"] = tokenizer.get_vocab()
    else:
        stored = json.loads(backend.to_str())
        facts |= {name: value for name, value in stored.items() if name not in _OF_A_CALL}
    return key_of(facts)


def _special(tokenizer: Any) -> Mapping[str, Any]:
    tokens: Mapping[str, Any] = tokenizer.special_tokens_map
    return tokens
