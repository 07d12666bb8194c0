"""What a plan says of memory: tables of sums, and what to do where they do not fit."""

from __future__ import annotations

from collections.abc import Callable

from bench.measure import machine_bytes
from bench.planning.sizes import Sizes, SumSizes

_GIB = 2**30
NOT_GENERATED = (
    "nothing was generated to measure times: a block needs more memory than is free here"
)


def in_gib(count: int) -> str:
    """Bytes in GiB, with more digits where they are few."""
    return f"{count / _GIB:,.{2 if count < _GIB else 1}f} GiB"


def weights_of(sizes: Sizes) -> str:
    """Parameters, and the memory of the weights in either precision."""
    denoiser, *others = sizes.parameters.values()
    return (
        f"{denoiser / 1e6:,.1f} + {sum(others) / 1e6:,.1f} million; "
        f"{in_gib(sizes.model_bytes)} in fp32 with {sizes.engines} denoisers open, "
        f"{in_gib(sizes.half_bytes[1])} in fp16 with one"
    )


def sum_table(sizes: Sizes) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of the memory and disk space of sums, exact and sketched."""
    exact, sketched = sizes.exact, sizes.sketched
    kinds = [exact] if exact.set_bytes == sketched.set_bytes else [exact, sketched]
    rows: dict[str, Callable[[SumSizes], int]] = {
        "activations of a block, until it is labelled": lambda kind: kind.activation_bytes,
        "sums of a block or shard": lambda kind: kind.set_bytes,
        "memory while images are summed": lambda kind: kind.memory_bytes,
        "sums of the trained network, all folds": lambda kind: kind.trained_folds_bytes,
        "shards of sums on disk": lambda kind: kind.disk_bytes,
    }
    taps = [f"taps of a call of {sizes.rows} rows", *[in_gib(sizes.call_bytes)] * len(kinds)]
    table = [
        taps,
        *([what, *(in_gib(entry(kind)) for kind in kinds)] for what, entry in rows.items()),
    ]
    headers = ["exact sums" if kind.width is None else f"--width {kind.width}" for kind in kinds]
    return ["by arithmetic", *headers], table


def advice_on(sizes: Sizes, width: int | None, memory: int | None = None) -> str | None:
    """A sentence where the sums at the run's ``width`` do not fit into memory.

    ``memory`` is in bytes, by default this machine's.
    """
    memory = machine_bytes() if memory is None else memory
    chosen = sizes.exact if width is None else sizes.sketched
    whole = sizes.model_bytes + sizes.call_bytes + chosen.memory_bytes
    if whole <= memory:
        return None
    have = f"{in_gib(whole)} with weights and taps, and this machine has {in_gib(memory)}"
    fewer = "probe fewer --steps or --layers, or use a machine with more memory"
    if width is not None:
        return f"the sketched sums need {have}: {fewer}"
    narrow = sizes.model_bytes + sizes.call_bytes + sizes.sketched.memory_bytes
    said = f"exact sums need {have}: --width {sizes.sketched.width} needs {in_gib(narrow)}"
    return said if narrow <= memory else f"{said}, which is still too much; {fewer}"
