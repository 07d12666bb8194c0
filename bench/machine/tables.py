"""Tables of a measured machine, and of the stages of a run."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from tabulate import tabulate

from bench.machine.records import EngineRates, Machine
from bench.machine.stages import Stage, seconds_of

_UNITS = ((1e12, " T"), (1e9, " G"), (1e6, " M"))
_HOUR, _MINUTE = 3600, 60


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text on the left, numbers on the right."""
    aligned = ["left", *["right"] * (len(headers) - 1)]
    text: str = tabulate(rows, headers=headers, disable_numparse=True, colalign=aligned)
    return text


def clock(seconds: float) -> str:
    """Seconds, with minutes or hours where they are many."""
    if seconds >= _HOUR:
        return f"{seconds:,.0f} s ({seconds / _HOUR:.1f} h)"
    if seconds >= 2 * _MINUTE:
        return f"{seconds:.0f} s ({seconds / _MINUTE:.1f} min)"
    return f"{seconds:.3g} s"


def stage_table(title: str, columns: Sequence[tuple[str, Sequence[Stage]]]) -> str:
    """Stages as rows, with one column of seconds per machine; the last row is the sum."""
    names = list(dict.fromkeys(stage.name for _, stages in columns for stage in stages))
    counts = {stage.name: stage for _, stages in columns for stage in stages}
    rows = []
    for name in names:
        seconds = [
            next((f"{stage.seconds:,.1f}" for stage in stages if stage.name == name), "")
            for _, stages in columns
        ]
        # Copied bytes depend on the precision, so that they are left out beside several columns.
        same = len({s.count for _, stages in columns for s in stages if s.name == name}) == 1
        count = f"{_short(counts[name].count)} {counts[name].unit}" if same else ""
        rows.append([name, count, *seconds])
    totals = [f"{seconds_of(tuple(stages)):,.1f}" for _, stages in columns]
    rows.append(["in all", "", *totals])
    return table([title, "", *(f"{name}, s" for name, _ in columns)], rows)


def machine_tables(machine: Machine) -> str:
    """All parts of a measured machine."""
    peaks = [[name, f"{rate / 1e12:.3g}"] for name, rate in machine.peaks.items()]
    parts = [
        table(["matrix products of random data", "TFLOP/s"], peaks),
        _contract(machine),
        _speed(machine),
        _full_size(machine),
        _statistics(machine),
        _others(machine),
        *([_agreement(machine)] if machine.agreement else []),
    ]
    if machine.left_out:
        parts.append(
            "not measured: "
            + "; ".join(f"{name} ({reason})" for name, reason in machine.left_out.items())
        )
    if machine.copies is None:
        parts.append("no GPU is used: copies, card memory and a run on a GPU are not measured")
    return "\n\n".join(part for part in parts if part)


def _contract(machine: Machine) -> str:
    taps = list(machine.main.errors)
    headers = ["largest relative error against PyTorch", *(e.name for e in machine.engines)]
    rows = [[tap, *(_error(engine.errors.get(tap)) for engine in machine.engines)] for tap in taps]
    return table(headers, rows)


def _error(value: float | None) -> str:
    return "nan" if value is None else f"{value:.1e}"


def _speed(machine: Machine) -> str:
    headers = [
        f"engine, {machine.model}",
        "opening, s",
        "ms per row",
        "taps add",
        "share of peak",
        "images per s",
        "statistics add",
    ]
    return table(headers, [_speed_row(engine) for engine in machine.engines])


def _speed_row(engine: EngineRates) -> list[str]:
    taps = engine.row_seconds / engine.untapped_row_seconds - 1
    sums = engine.extraction_seconds / engine.generation_seconds - 1
    worst = engine.worst_error
    return [
        f"{engine.name} ({engine.precision}, {engine.device}){' !' if isnan(worst) else ''}",
        f"{engine.opening_seconds:.2f}",
        f"{1e3 * engine.row_seconds:.3g}",
        f"{taps:+.0%}",
        _share(engine.share),
        f"{engine.images / engine.extraction_seconds:.3g}",
        f"{sums:+.0%}",
    ]


def _share(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def _full_size(machine: Machine) -> str:
    full = machine.main.full_size
    if full is None:
        return ""
    rate = full.flops_per_row / full.row_seconds
    row = [
        f"{machine.main.name}: {full.what}",
        f"{full.rows}",
        f"{full.flops_per_row / 1e9:.0f}",
        f"{1e3 * full.row_seconds:,.3g}",
        f"{rate / 1e12:.3g}",
        _share(full.share),
    ]
    headers = ["full size", "rows", "GFLOP per row", "ms per row", "TFLOP/s", "share of peak"]
    return table(headers, [row])


def _statistics(machine: Machine) -> str:
    headers = [
        f"statistics on {machine.main.device}",
        "sums, ns per token",
        "predictions, ns per token",
        "eigenproblem, ms",
        "weights, ms per target",
    ]
    rows = [
        [
            f"{row.channels} channels, {row.columns} columns",
            f"{1e9 * row.sum_seconds:,.0f}",
            f"{1e9 * row.read_seconds:,.0f}",
            f"{1e3 * row.eigenproblem_seconds:.3g}",
            f"{1e3 * row.target_seconds:.3g}",
        ]
        for row in machine.statistics
    ]
    return table(headers, rows)


def _others(machine: Machine) -> str:
    rows = [
        [f"decoding an image, {part.name}", f"{1e3 * part.seconds:.3g} ms"]
        for part in machine.autoencoder
    ]
    rows += [
        [f"embedding a prompt, {part.name}", f"{1e3 * part.seconds:.3g} ms"]
        for part in machine.text
    ]
    rows += [
        [f"labelling, {name}", f"{1e9 * seconds:.3g} ns per pixel"]
        for name, seconds in machine.pixel_seconds.items()
    ]
    rows += [
        [f"scoring {name}", f"{1e9 * seconds:.3g} ns per cell, image and token"]
        for name, seconds in machine.score_seconds.items()
    ]
    rows += [
        [f"targets of {name}", f"{1e9 * seconds:.3g} ns per pixel and grid"]
        for name, seconds in machine.target_seconds.items()
    ]
    rows += [
        ["all thresholds", f"{1e9 * machine.sweep_seconds:.3g} ns per cell, image and token"],
        ["intervals", f"{1e9 * machine.interval_seconds:.3g} ns per cell, metric and image"],
        [
            "sampler, joins and checks",
            f"{1e9 * machine.check_seconds:.3g} ns per value of the taps",
        ],
        ["storing sums", f"{1 / machine.storing_seconds / 2**30:.3g} GiB/s"],
    ]
    if machine.copies is not None:
        rows += [
            ["copies to the host", f"{machine.copies.to_host / 2**30:.3g} GiB/s"],
            ["copies to the card", f"{machine.copies.to_card / 2**30:.3g} GiB/s"],
        ]
    return table(["other parts", ""], rows)


def _agreement(machine: Machine) -> str:
    agreement = machine.agreement
    assert agreement is not None
    title = (
        f"{agreement.items} items with {agreement.engine} against {agreement.reference}, "
        f"{agreement.cells} cells"
    )
    rows = [
        [name, "undefined on one side" if change is None else f"{change:.2g}"]
        for name, change in agreement.largest.items()
    ]
    return table([title, "largest change of a cell's mean"], rows)


def _short(count: float) -> str:
    for unit, letter in _UNITS:
        if count >= 10 * unit:
            return f"{count / unit:,.1f}{letter}"
    return f"{count:,.0f}"
