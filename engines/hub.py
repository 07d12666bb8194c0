"""Fetch a model from the Hugging Face hub: the parts that its family needs, as safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engines.configurations import INDEX, read_object
from engines.errors import EngineError
from engines.family import family_of
from engines.stored_weights import has_weights
from engines.validate import quoted

_HALF, _OTHERS = ("*.fp16.*", "*.fp16-*"), ("*.non_ema.*", "*.non_ema-*")
"""Variants, which hold the same weights again: in half precision, or not averaged."""


def fetched(source: str) -> Path:
    """The folder of a hub id, downloaded unless it is there. Raises EngineError if it cannot be."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source, allow_patterns=[INDEX]))
        index = read_object(folder / INDEX)
        family = family_of(folder, index)
        parts = (*family.present(index), "scheduler")
        patterns = [
            INDEX,
            *(
                f"{part}/*.{kind}"
                for part in parts
                for kind in ("json", "txt", "model", "safetensors")
            ),
        ]

        def download(ignored: Sequence[str]) -> Path:
            return Path(
                snapshot_download(source, allow_patterns=patterns, ignore_patterns=list(ignored))
            )

        folder = download((*_HALF, *_OTHERS))
        lacking = [
            part
            for part in family.networks
            if (folder / part / "config.json").is_file() and not has_weights(folder / part)
        ]
        if not lacking:
            return folder
        whole = [f"{part}/{pattern}" for part in parts if part not in lacking for pattern in _HALF]
        return download((*whole, *_OTHERS))
    except EngineError:
        raise
    except Exception as error:
        raise EngineError(
            f"cannot fetch {source} from the hub ({quoted(error)}); "
            "give a local diffusers folder with --model"
        ) from error
