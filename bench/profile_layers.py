"""Where the time goes: modules' own times, added up to the layers of the UNet, and per step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import TypeVar

from tabulate import tabulate

from bench.flops import PARTS, place_of
from bench.profile_results import LayerSample, Profile

Key = TypeVar("Key", bound=Hashable)
REST = "rest"
"""What belongs to no layer of a block: first and last convolution, time embedding, and what an engine cannot name."""


def summed(samples: list[LayerSample], key: Callable[[LayerSample], Key]) -> dict[Key, float]:
    """Seconds of one trajectory by key."""
    sums: dict[Key, float] = defaultdict(float)
    for sample in samples:
        sums[key(sample)] += sample.seconds
    return dict(sums)


def part_of(sample: LayerSample) -> str:
    """The layer's kind, such as attn1."""
    return place_of(sample.module)[1] or REST


def block_of(sample: LayerSample) -> str:
    """The block, such as up2."""
    block, part = place_of(sample.module)
    return block if part else REST


def print_layers(profile: Profile) -> None:
    """One table of layers and one of steps, engines side by side."""
    engines = [name for name, facts in profile.engines.items() if facts.coverage is not None]
    if not engines:
        return
    mine = {name: [sample for sample in profile.layers if sample.engine == name] for name in engines}
    steps = int(profile.options["sampler_steps"])
    rows_per_call = profile.layers[0].rows
    _print_table(
        f"ms per step by layer, {rows_per_call} rows", mine, part_of, [*PARTS, REST], steps,
        [f"{name}: coverage {profile.engines[name].coverage:.0%}, own times over whole calls" for name in engines],
    )  # fmt: skip
    blocks = list(dict.fromkeys(block_of(sample) for samples in mine.values() for sample in samples))
    order = {"down": 0, "mid": 1, "up": 2}
    blocks.sort(key=lambda name: (order.get(name.rstrip("0123456789"), 3), name))
    _print_table(f"ms per step by block, {rows_per_call} rows", mine, block_of, blocks, steps, [])
    numbers = sorted({sample.step for sample in profile.layers})
    _print_table("ms per step and timestep", mine, lambda sample: sample.step, numbers, 1, [], _step_names(profile))
    print_tap_layers(profile, mine, steps)


def print_tap_layers(profile: Profile, mine: dict[str, list[LayerSample]], steps: int) -> None:
    """Per tapped layer: bytes of the tap, and the time of the self-attention that it reads."""
    rows = []
    sums = {name: summed(samples, _tapped_layer) for name, samples in mine.items()}
    for layer, size in profile.work.taps.items():
        times = [f"{by.get(layer, 0.0) / steps * 1e3:.3f}" for by in sums.values()]
        rows.append([layer, f"{size / 1024:.1f}", *times])
    rows.append(["all", f"{sum(profile.work.taps.values()) / 1024:.1f}", *_totals(sums, set(profile.work.taps), steps)])
    print("\ntaps: KiB per row and step (fp32), and ms per step of the self-attention that each one reads")
    print(tabulate(rows, headers=["layer", "KiB", *mine], tablefmt="simple", disable_numparse=True))


def _totals(sums: dict[str, dict[str, float]], layers: set[str], steps: int) -> list[str]:
    return [f"{sum(by.get(layer, 0.0) for layer in layers) / steps * 1e3:.3f}" for by in sums.values()]


def _tapped_layer(sample: LayerSample) -> str:
    """The tap's layer, such as ``up2.1``, of a module in a self-attention; empty for others."""
    block, part = place_of(sample.module)
    if part != "attn1":
        return ""
    numbers = [word for word in sample.module.split("attentions.")[1].split(".") if word.isdigit()]
    return f"{block}.{numbers[0]}"


def _step_names(profile: Profile) -> dict[int, str]:
    return {sample.step: f"{sample.step + 1} (t {sample.timestep:.0f})" for sample in profile.layers}


def _print_table(
    title: str,
    mine: dict[str, list[LayerSample]],
    key: Callable[[LayerSample], Key],
    order: list[Key],
    steps: int,
    lines: list[str],
    names: dict[Key, str] | None = None,
) -> None:
    sums = {name: summed(samples, key) for name, samples in mine.items()}
    totals = {name: sum(by.values()) for name, by in sums.items()}
    rows = []
    for entry in order:
        cells = [
            f"{by.get(entry, 0.0) / steps * 1e3:.2f} ({by.get(entry, 0.0) / totals[name]:.0%})"
            for name, by in sums.items()
        ]
        rows.append([names[entry] if names else str(entry), *cells])
    print(f"\n{title}")
    print(tabulate(rows, headers=["", *mine], tablefmt="simple", disable_numparse=True))
    for line in lines:
        print(f"  {line}")
