"""How much a UNet has to compute, attention included, per layer: counted on tensors without data, in no time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bench.profile_results import Work
from engines.engine import Tap

_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)|(mid)_block")
_PART = re.compile(r"(?:^|\.)(attn1|attn2|ff|resnets|downsamplers|upsamplers|attentions)(?:\.|$)")
_FP32_BYTES = 4
PARTS = ("resnets", "attn1", "attn2", "ff", "attentions", "downsamplers", "upsamplers")
"""The layers of a block; ``attentions`` is what of a transformer is in none of attn1, attn2, ff: projections, norms."""


@dataclass(frozen=True, slots=True)
class ModuleWork:
    """What one module does for one row and step."""

    flops: int
    """Floating-point operations, those of its children included."""
    bytes: int
    """Size of its output in fp32; 0 where it is no tensor."""


def place_of(module: str) -> tuple[str, str]:
    """(block, part) of a module path: ``("down0", "attn1")``; (name, "") for what lies outside the blocks."""
    block = _BLOCK.match(module)
    if not block:
        return module.partition(".")[0], ""
    side, number, middle = block.groups()
    found = _PART.findall(module)
    # The innermost name tells: attn1 lies in attentions.
    return f"{side or middle}{number or ''}", found[-1] if found else ""


def work_of(unet: UNet2DConditionModel, taps: Sequence[Tap], words: int) -> tuple[Work, dict[str, ModuleWork]]:
    """The UNet's work for one row with ``words`` text tokens: in all, and per module path.

    On data, torch's counter misses the CPU's fused attention; on the meta device attention is two matrix products.
    """
    config = unet.config
    with torch.device("meta"):
        shape = UNet2DConditionModel.from_config(config).eval()
        row = torch.zeros(1, int(config.in_channels), int(config.sample_size), int(config.sample_size))
        inputs = row, torch.zeros(()), torch.zeros(1, words, int(config.cross_attention_dim))
    sizes: dict[str, int] = {}
    handles = [module.register_forward_hook(_sizing(sizes, name)) for name, module in shape.named_modules() if name]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        shape(*inputs)
    for handle in handles:
        handle.remove()
    counts = counter.get_flop_counts()
    prefix = f"{type(shape).__name__}."
    inclusive = {name.removeprefix(prefix): sum(by.values()) for name, by in counts.items() if name.startswith(prefix)}
    attention = sum(n for kind, n in counts["Global"].items() if "bmm" in str(kind) or "scaled_dot" in str(kind))
    work = Work(
        parameters=sum(weight.numel() for weight in unet.parameters()),
        flops_per_row=counter.get_total_flops(),
        attention_flops_per_row=attention,
        taps={tap.layer: sizes[tap.path] for tap in taps},
    )
    return work, {name: ModuleWork(inclusive.get(name, 0), sizes.get(name, 0)) for name in sizes | inclusive}


def self_flops(modules: dict[str, ModuleWork]) -> dict[str, int]:
    """Operations of each module without its children's."""
    own = {name: work.flops for name, work in modules.items()}
    for name, work in modules.items():
        parent = name.rpartition(".")[0]
        while parent and parent not in own:
            parent = parent.rpartition(".")[0]
        if parent:
            own[parent] -= work.flops
    return own


def _sizing(sizes: dict[str, int], name: str) -> Any:
    def hook(_module: nn.Module, _inputs: object, output: object) -> None:
        sizes[name] = output.numel() * _FP32_BYTES if isinstance(output, Tensor) else 0

    return hook
