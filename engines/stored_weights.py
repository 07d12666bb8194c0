"""What a part's weight files are called and hold, without reading the weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import safe_open

from engines.errors import EngineError

_VARIANTS = ("fp32", "bf16", "fp16")
"""The same weights in another precision: NAME.fp16.safetensors, NAME.fp16-00001-of-00002..."""
_ADAPTER = re.compile(r"lora_|_lora|\.lora\.|\.base_layer\.|hada_w|lokr_w", re.IGNORECASE)


def has_weights(folder: Path) -> bool:
    """Whether there are weights as safetensors that are no variant."""
    return bool(_files(folder, None))


def variant_of(folder: Path) -> str | None:
    """The variant to load: None for plain weights, where there are any.

    Raises EngineError if there are no weights as safetensors.
    """
    for variant in (None, *_VARIANTS):
        if _files(folder, variant):
            return variant
    others = sorted(path.name for path in folder.glob("*") if path.suffix not in (".json", ".md"))
    raise EngineError(
        f"{folder} holds no weights as safetensors"
        + (f" but {others[0]}; save the model as safetensors" if others else "; fetch it again")
    )


def adapter_in(folder: Path) -> str | None:
    """The name of a weight of an adapter that is not fused, such as a LoRA, or None."""
    return next((name for name, _ in _stored(folder) if _ADAPTER.search(name)), None)


def quantised_in(folder: Path) -> str | None:
    """The name of a weight that is stored as an integer, as quantised networks store it, or None.

    Buffers of integers, such as positions, are no weights.
    """
    return next(
        (name for name, kind in _stored(folder) if name.endswith("weight") and kind[0] in "IU"),
        None,
    )


def _stored(folder: Path) -> Iterator[tuple[str, str]]:
    """Names and types of the stored tensors; files that cannot be read are left to the libraries.

    A type is that of the safetensors format, such as F16 or I8.
    """
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as stored:
                names = sorted(stored.keys())
                found = [(str(name), str(stored.get_slice(name).get_dtype())) for name in names]
        except Exception:
            continue
        yield from found


def _files(folder: Path, variant: str | None) -> list[Path]:
    infix = re.compile(r"\.([A-Za-z_]\w*)(?:-\d+-of-\d+)?\.safetensors$")
    found = []
    for path in sorted(folder.glob("*.safetensors")):
        match = infix.search(path.name)
        if (match.group(1) if match else None) == variant:
            found.append(path)
    return found
