"""Rates of a measured machine."""

from __future__ import annotations

from bench.config import nearest
from bench.errors import UserError
from bench.machine.curve import Curve
from bench.machine.records import EngineRates, Machine
from bench.machine.stages import Rates
from bench.planning.plan import Plan

_ALIKE = 8
"""A denoiser of more than so many times the operations needs a reading at full size."""


def measured_rates(machine: Machine, plan: Plan, engine: str, labeler: str) -> Rates:
    """Rates of a run with an engine. Raises UserError for one that was not measured."""
    chosen = _engine(machine, plan, engine)
    full = chosen.full_size
    network = [(machine.flops_per_row, machine.flops_per_row / chosen.row_seconds)]
    if full is not None:
        network.append((full.flops_per_row, full.flops_per_row / full.row_seconds))

    def opening(parameters: int) -> float:
        if full is not None and parameters > _ALIKE * machine.parameters:
            return full.opening_seconds * parameters / full.parameters
        return chosen.opening_seconds * max(1.0, parameters / machine.parameters)

    widths = machine.statistics
    copies = machine.copies
    return Rates(
        name=f"{machine.environment.processor or 'this machine'}, {engine}",
        network=Curve.of(network),
        autoencoder=Curve.of(
            [(part.flops, part.flops / part.seconds) for part in machine.autoencoder]
        ),
        text=Curve.of([(part.flops, part.flops / part.seconds) for part in machine.text]),
        opening=opening,
        sums=Curve.of([(row.columns, row.sum_seconds) for row in widths], extrapolated=True),
        reads=Curve.of([(row.channels, row.read_seconds) for row in widths], extrapolated=True),
        problems=Curve.of(
            [(row.channels, row.eigenproblem_seconds) for row in widths], extrapolated=True
        ),
        targets=Curve.of([(row.channels, row.target_seconds) for row in widths], extrapolated=True),
        scores=machine.score_seconds,
        target_pixels=machine.target_seconds,
        sweep=machine.sweep_seconds,
        interval=machine.interval_seconds,
        check=machine.check_seconds,
        storing=machine.storing_seconds,
        labels=machine.pixel_seconds.get(labeler),
        to_host=None if copies is None else copies.to_host,
    )


def notes(machine: Machine, plan: Plan, engine: str, labeler: str) -> tuple[str, ...]:
    """What a prediction of a measured machine leaves out or assumes."""
    lines = [
        f"measured with {machine.threads} threads in {machine.took_seconds:.0f} s; "
        "nothing is overlapped",
        "predictions of probes are counted for two tasks of one channel",
    ]
    chosen = _engine(machine, plan, engine)
    if chosen.full_size is not None and plan.flops_per_row > _ALIKE * machine.flops_per_row:
        lines.append(
            f"denoisers as fast as {chosen.full_size.what} "
            f"({chosen.full_size.flops_per_row / chosen.full_size.row_seconds / 1e12:.3g} TFLOP/s)"
        )
    if labeler not in machine.pixel_seconds:
        lines.append(f"labels of {labeler} are not measured and not included")
    others = sorted(set(plan.work.scored) - machine.score_seconds.keys())
    if others:
        lines.append(f"scores of {', '.join(others)}: as the slowest measured task")
    return tuple(lines)


def _engine(machine: Machine, plan: Plan, name: str) -> EngineRates:
    by_name = {engine.name: engine for engine in machine.engines}
    again = f"measure it with python -m bench doctor --measure --engine {name}"
    if name not in by_name:
        raise UserError(
            f"the measured machine has no engine {name!r}{nearest(name, tuple(by_name))}; {again}"
        )
    engine = by_name[name]
    if engine.device != machine.main.device:
        raise UserError(
            f"statistics of the measured machine are on {machine.main.device}, and {name} computes "
            f"on {engine.device}; {again}"
        )
    if engine.full_size is None and plan.flops_per_row > _ALIKE * machine.flops_per_row:
        raise UserError(
            f"the measured machine has no rate of {name} for a denoiser of this size; {again}"
        )
    return engine
