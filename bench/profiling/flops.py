"""Count the operations of a denoiser, per layer, and of a decoder, on the meta device."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.profiling.records import ModuleWork, Work
from engines.denoiser import Denoiser
from engines.engine import Tap
from engines.shapes import architecture_key, decoder_without_weights, without_weights

_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)|(mid)_block")
_PART = re.compile(r"(?:^|\.)(attn1|attn2|ff|resnets|downsamplers|upsamplers|attentions)(?:\.|$)")
_FP32_BYTES = 4
PARTS = ("resnets", "attn1", "attn2", "ff", "attentions", "downsamplers", "upsamplers")
"""Kinds of layers of a block; ``attentions`` is what a transformer has besides attn1, attn2 and ff:
projections and norms."""


def place_of(module: str) -> tuple[str, str]:
    """(block, part) of a module path, such as ``("down0", "attn1")``; (name, "") outside blocks."""
    block = _BLOCK.match(module)
    if not block:
        return module.partition(".")[0], ""
    side, number, middle = block.groups()
    parts = _PART.findall(module)
    # The innermost name counts: attn1 lies in attentions.
    return f"{side or middle}{number or ''}", parts[-1] if parts else ""


def work_of(
    denoiser: Denoiser, taps: Sequence[Tap], words: int
) -> tuple[Work, tuple[ModuleWork, ...]]:
    """Work of the denoiser for one row with ``words`` rows of text: in total, and per module.

    With data, torch's counter misses the CPU's fused attention; on the meta device attention is two
    matrix products.
    """
    key = architecture_key(denoiser, taps, words)
    if key not in _COUNTED:
        _COUNTED[key] = _counted(denoiser, taps, words)
    return _COUNTED[key]


_COUNTED: dict[Hashable, tuple[Work, tuple[ModuleWork, ...]]] = {}


def _counted(
    denoiser: Denoiser, taps: Sequence[Tap], words: int
) -> tuple[Work, tuple[ModuleWork, ...]]:
    shape, call = without_weights(denoiser, words)
    sizes: dict[str, int] = {}
    handles = [
        module.register_forward_hook(_sizing(sizes, name))
        for name, module in shape.named_modules()
        if name
    ]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        call()
    for handle in handles:
        handle.remove()
    counts = counter.get_flop_counts()
    prefix = f"{type(shape).__name__}."
    is_attention = re.compile("bmm|scaled_dot").search
    work = Work(
        parameters=sum(weight.numel() for weight in denoiser.module.parameters()),
        flops_per_row=counter.get_total_flops(),
        attention_flops_per_row=sum(
            count for name, count in counts["Global"].items() if is_attention(str(name))
        ),
        taps={tap.layer: sizes[tap.path] for tap in taps},
    )
    own = _without_children({name: sum(counts.get(prefix + name, {}).values()) for name in sizes})
    return work, tuple(ModuleWork(name, own[name], sizes[name]) for name in sizes)


def embedding_flops(encoder: nn.Module, tokens: int) -> int:
    """Floating-point operations of a text encoder for one prompt of ``tokens`` tokens."""
    kind: Any = type(encoder)
    with torch.device("meta"):
        shape = kind(encoder.config).eval()
        ids = torch.zeros(1, tokens, dtype=torch.int64)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shape(input_ids=ids)
    return int(counter.get_total_flops())


def decoding_flops(vae: Any, latent_shape: tuple[int, int, int]) -> int:
    """Floating-point operations that turn one latent (channels, height, width) into an image."""
    shape, latent = decoder_without_weights(vae), torch.zeros(1, *latent_shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shape.decode(latent)
    return int(counter.get_total_flops())


def _without_children(inclusive: Mapping[str, int]) -> dict[str, int]:
    own = dict(inclusive)
    for name, flops in inclusive.items():
        parent = name.rpartition(".")[0]
        # A ModuleList is part of a path but is never called.
        while parent and parent not in own:
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= flops
    return own


def _sizing(sizes: dict[str, int], name: str) -> Any:
    def hook(_module: nn.Module, _inputs: object, output: Any) -> None:
        first = output if isinstance(output, Tensor) else output[0]
        sizes[name] = first.numel() * _FP32_BYTES if isinstance(first, Tensor) else 0

    return hook
