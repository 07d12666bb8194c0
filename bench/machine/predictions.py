"""What a measured machine needs for the default run, and for the paper's set at full size."""

from __future__ import annotations

from bench.config import Config
from bench.machine.measured import measured_rates, notes
from bench.machine.records import Machine
from bench.machine.stages import Stage, stages_of
from bench.planning.estimate import plan_of
from bench.planning.plan import Plan

PAPER = "the paper's 617 prompts on Stable Diffusion v1, with the random network"


def default_run(machine: Machine, **options: object) -> tuple[Plan, tuple[Stage, ...]]:
    """The plan and the stages of ``python -m bench run`` with the machine's engine."""
    config = Config(engine=machine.main.name, threads=machine.threads, **options)  # type: ignore[arg-type]
    plan = plan_of(config, 0)
    return plan, stages_of(plan, measured_rates(machine, plan, config.engine, "tiny"))


def paper_run(machine: Machine) -> tuple[Plan, tuple[Stage, ...], tuple[str, ...]] | None:
    """The same for the paper's set, with notes; None without a reading at full size.

    The shipped set has as many training and test items as the paper's, so that no prompts have to
    be downloaded to count.
    """
    if machine.main.full_size is None:
        return None
    config = Config(
        model="sd_v1",
        weights="random",
        engine=machine.main.name,
        batch=8 if machine.main.device == "cpu" else 16,
        threads=machine.threads,
    )
    plan = plan_of(config, 0)
    rates = measured_rates(machine, plan, config.engine, "midas")
    return plan, stages_of(plan, rates), notes(machine, plan, config.engine, "midas")
