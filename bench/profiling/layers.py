"""Where the time goes: modules' own times, added up to the layers of the UNet, per block and per step."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from statistics import median
from typing import TypeVar

from tabulate import tabulate

from bench.profiling.flops import PARTS, place_of
from bench.profiling.records import LayerSample, ModuleWork, Profile

Key = TypeVar("Key", bound=Hashable)
REST = "rest"
"""What belongs to no layer of a block: first and last convolution, time embedding, and what an engine cannot name."""
_LAYER = re.compile(r".*\.(attn1|attn2|ff|(resnets|downsamplers|upsamplers|attentions)\.\d+)")
_SELF_ATTENTION = re.compile(r".*\battentions\.(\d+)\.transformer_blocks\.(\d+)\.attn1(?:\..*)?")
_SIDES = ("down", "mid", "up")


def part_of(module: str) -> str:
    """The layer's kind, such as attn1."""
    return place_of(module)[1] or REST


def block_of(module: str) -> str:
    """The block, such as up2."""
    block, part = place_of(module)
    return block if part else REST


def tapped_layer(module: str, taps: Collection[str]) -> str:
    """The one of ``taps``' layers, such as ``up2.1``, whose self-attention a module lies in; empty for others.

    Where transformers are several blocks deep, a layer's name has the block's number too, such as ``up0.1.3``.
    """
    found = _SELF_ATTENTION.fullmatch(module)
    if not found:
        return ""
    short = f"{place_of(module)[0]}.{found[1]}"
    return next((name for name in (f"{short}.{found[2]}", short) if name in taps), "")


def seconds_by(
    samples: Sequence[LayerSample], key: Callable[[LayerSample], Key]
) -> dict[Key, float]:
    """SufficientStatistics of own times."""
    sums: dict[Key, float] = defaultdict(float)
    for sample in samples:
        sums[key(sample)] += sample.seconds
    return dict(sums)


def median_step(samples: Sequence[LayerSample], key: Callable[[str], str]) -> dict[str, float]:
    """Seconds per step by key, the median over the steps: what disturbs one step moves no layer."""
    sums = seconds_by(samples, lambda sample: (sample.step, key(sample.module)))
    steps = sorted({step for step, _ in sums})
    names = {name for _, name in sums}
    return {name: median(sums.get((step, name), 0.0) for step in steps) for name in names}


def work_by(modules: Sequence[ModuleWork], key: Callable[[str], str]) -> dict[str, tuple[int, int]]:
    """Operations and bytes of outputs per row and step; the output of a layer is what leaves it, not what is inside."""
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for entry in modules:
        flops, size = sums[key(entry.module)]
        leaves = entry.bytes if _LAYER.fullmatch(entry.module) else 0
        sums[key(entry.module)] = flops + entry.flops, size + leaves
    return dict(sums)


def print_layers(profile: Profile) -> None:
    """Tables of layers, blocks, taps and steps, engines side by side."""
    engines = [name for name, facts in profile.engines.items() if facts.coverage is not None]
    if not engines:
        return
    mine = {
        name: [sample for sample in profile.layers if sample.engine == name] for name in engines
    }
    rows = profile.layers[0].rows
    lines = [
        f"{name}: coverage {profile.engines[name].coverage:.0%}, own times over whole calls"
        for name in engines
    ]
    lines.append(
        "attentions: projections and norms around attn1, attn2 and ff. MiB: what the layers put out, fp32."
    )
    _print_table(
        profile,
        mine,
        f"ms per step by layer, {rows} rows, median over steps",
        part_of,
        [*PARTS, REST],
    )
    for line in lines:
        print(f"  {line}")
    blocks = sorted({block_of(sample.module) for sample in profile.layers}, key=_place_in_order)
    _print_table(profile, mine, f"ms per step by block, {rows} rows", block_of, blocks)
    title = f"ms per step of the self-attention at each tap, {rows} rows (MiB: the tap)"
    taps = profile.work.taps
    _print_table(profile, mine, title, lambda module: tapped_layer(module, taps), list(taps))
    print_steps_of_layers(profile, mine)


def _place_in_order(block: str) -> tuple[int, str]:
    side = block.rstrip("0123456789")
    return (_SIDES.index(side) if side in _SIDES else len(_SIDES)), block


def print_steps_of_layers(profile: Profile, mine: dict[str, list[LayerSample]]) -> None:
    """Per step: own times in all, and their largest kinds of layer."""
    named = {
        sample.step: f"{sample.step + 1} (t {sample.timestep:.0f})" for sample in profile.layers
    }
    sums = {
        name: seconds_by(samples, lambda s: (s.step, part_of(s.module)))
        for name, samples in mine.items()
    }
    parts = ("resnets", "attn1", "ff")
    rows = []
    for step in sorted(named):
        cells = []
        for by in sums.values():
            total = sum(seconds for (at, _), seconds in by.items() if at == step)
            shares = " ".join(f"{by.get((step, part), 0.0) / total:.0%}" for part in parts)
            cells.append(f"{total * 1e3:.1f} ({shares})")
        rows.append([named[step], *cells])
    print(
        f"\nms per step, in brackets the shares of {', '.join(parts)}; every module is in layers.csv"
    )
    print(
        tabulate(rows, headers=["step (timestep)", *mine], tablefmt="simple", disable_numparse=True)
    )


def _print_table(
    profile: Profile,
    mine: dict[str, list[LayerSample]],
    title: str,
    key: Callable[[str], str],
    order: Sequence[str],
) -> None:
    work = work_by(profile.modules, key)
    sums = {name: median_step(samples, key) for name, samples in mine.items()}
    totals = {name: median_step(samples, lambda _: "all")["all"] for name, samples in mine.items()}
    count = profile.layers[0].rows
    rows = []
    for entry in order:
        flops, size = work.get(entry, (0, 0))
        cells = []
        for name, by in sums.items():
            seconds = by.get(entry, 0.0)
            rate = f", {count * flops / seconds / 1e9:.0f} GFLOP/s" if seconds and flops else ""
            cells.append(f"{seconds * 1e3:.2f} ({seconds / totals[name]:.0%}{rate})")
        rows.append([entry, f"{count * flops / 1e9:.3f}", f"{count * size / 2**20:.2f}", *cells])
    print(f"\n{title}")
    print(
        tabulate(
            rows, headers=["", "GFLOP", "MiB", *mine], tablefmt="simple", disable_numparse=True
        )
    )
