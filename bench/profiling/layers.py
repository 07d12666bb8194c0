"""Own times of modules, summed per layer, block, tap and step of the UNet."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Sequence
from statistics import median
from typing import TypeVar

from bench.profiling.flops import PARTS, place_of
from bench.profiling.formatting import print_table
from bench.profiling.records import LayerSample, ModuleWork, Profile
from bench.steps import number_of

Key = TypeVar("Key", bound=Hashable)
REST = "rest"
"""Work outside the blocks' layers: first and last convolution, time embedding, and operations that
an engine cannot name."""
_LAYER = re.compile(r".*\.(attn1|attn2|ff|(resnets|downsamplers|upsamplers|attentions)\.\d+)")
_SELF_ATTENTION = re.compile(r".*\battentions\.(\d+)\.transformer_blocks\.(\d+)\.attn1(?:\..*)?")
_SIDES = ("down", "mid", "up")


def part_of(module: str) -> str:
    """The kind of layer, such as attn1."""
    return place_of(module)[1] or REST


def block_of(module: str) -> str:
    """The block, such as up2."""
    block, part = place_of(module)
    return block if part else REST


def tapped_layer(module: str, taps: Collection[str]) -> str:
    """The layer of ``taps`` whose self-attention contains the module, such as ``up2.1``; else "".

    Where transformers are several blocks deep, a layer's name ends in the number of the block, such
    as ``up0.1.3``.
    """
    match = _SELF_ATTENTION.fullmatch(module)
    if not match:
        return ""
    short = f"{place_of(module)[0]}.{match[1]}"
    return next((name for name in (f"{short}.{match[2]}", short) if name in taps), "")


def seconds_by(
    samples: Sequence[LayerSample], key: Callable[[LayerSample], Key]
) -> dict[Key, float]:
    """Sums of own times per key."""
    sums: dict[Key, float] = defaultdict(float)
    for sample in samples:
        sums[key(sample)] += sample.seconds
    return dict(sums)


def median_step(samples: Sequence[LayerSample], key: Callable[[str], str]) -> dict[str, float]:
    """Seconds per step by key, as medians over steps, which a disturbed step does not move."""
    sums = seconds_by(samples, lambda sample: (sample.step, key(sample.module)))
    steps = sorted({step for step, _ in sums})
    names = {name for _, name in sums}
    return {name: median(sums.get((step, name), 0.0) for step in steps) for name in names}


def work_by(modules: Sequence[ModuleWork], key: Callable[[str], str]) -> dict[str, tuple[int, int]]:
    """(operations, bytes) per row and step by key; bytes count the output of whole layers only."""
    sums: dict[str, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for entry in modules:
        flops, size = sums[key(entry.module)]
        output = entry.bytes if _LAYER.fullmatch(entry.module) else 0
        sums[key(entry.module)] = flops + entry.flops, size + output
    return dict(sums)


def print_layers(profile: Profile) -> None:
    """Print tables of layers, blocks, taps and steps, engines side by side."""
    coverage = {
        name: facts.coverage
        for name, facts in profile.engines.items()
        if facts.coverage is not None
    }
    if not coverage:
        return
    samples = {name: [s for s in profile.layers if s.engine == name] for name in coverage}
    rows = profile.layers[0].rows
    notes = [
        *(
            f"{name}: coverage {share:.0%}, own times over whole calls"
            for name, share in coverage.items()
        ),
        "attentions: projections and norms around attn1, attn2 and ff. MiB: output in fp32.",
    ]
    title = f"ms per step by layer, {rows} rows, median over steps"
    _print_times(profile, samples, title, part_of, [*PARTS, REST], notes)
    blocks = sorted({block_of(sample.module) for sample in profile.layers}, key=_order)
    _print_times(profile, samples, f"ms per step by block, {rows} rows", block_of, blocks)
    title = f"ms per step of the self-attention at each tap, {rows} rows (MiB: the tap)"
    taps = profile.work.taps
    _print_times(profile, samples, title, lambda module: tapped_layer(module, taps), list(taps))
    _print_steps(profile, samples)


def _order(block: str) -> tuple[int, str]:
    side = block.rstrip("0123456789")
    return (_SIDES.index(side) if side in _SIDES else len(_SIDES)), block


def _print_steps(profile: Profile, samples: dict[str, list[LayerSample]]) -> None:
    """Print per step the sum of own times, and the shares of the largest kinds of layers."""
    timesteps = {sample.step: sample.timestep for sample in profile.layers}
    parts = ("resnets", "attn1", "ff")
    sums = [
        seconds_by(own, lambda sample: (sample.step, part_of(sample.module)))
        for own in samples.values()
    ]
    rows = []
    for step in sorted(timesteps):
        cells = []
        for by in sums:
            total = sum(seconds for (at, _), seconds in by.items() if at == step)
            shares = " ".join(f"{by.get((step, part), 0.0) / total:.0%}" for part in parts)
            cells.append(f"{total * 1e3:.1f} ({shares})")
        rows.append([f"{number_of(step)} (t {timesteps[step]:.0f})", *cells])
    title = f"ms per step, in brackets the shares of {', '.join(parts)}"
    print_table(title, ["step (timestep)", *samples], rows, ["every module is in layers.csv"])


def _print_times(
    profile: Profile,
    samples: dict[str, list[LayerSample]],
    title: str,
    key: Callable[[str], str],
    order: Sequence[str],
    notes: Sequence[str] = (),
) -> None:
    work = work_by(profile.modules, key)
    sums = {name: median_step(own, key) for name, own in samples.items()}
    totals = {name: median_step(own, lambda _: "all")["all"] for name, own in samples.items()}
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
    print_table(title, ["", "GFLOP", "MiB", *samples], rows, notes)
