"""What works on this machine, and what is missing."""

from __future__ import annotations

import argparse
import os
import shutil

from bench.options.typed import output_file


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--measure",
        action="store_true",
        help="measure engines, statistics and scores here, in a few minutes",
    )
    add("--engine", help="measure this engine alone (default: all usable ones)")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add(
        "--out",
        type=output_file(),
        metavar="FILE",
        help="file of the measurements, for plan --machine (default: in the cache folder)",
    )


def command(options: argparse.Namespace) -> int:
    """Print machine, packages and engines, or measurements; 2 if the default run cannot start."""
    if options.measure:
        return _measure(options)
    from bench.command_line import flag
    from bench.errors import UserError

    for name in ("engine", "threads", "out"):
        if getattr(options, name) is not None:
            raise UserError(f"{flag(name)} is for --measure; add it, or leave {flag(name)} out")
    from bench.environment import environment

    machine = environment()
    print(f"python     {machine.python} on {machine.platform}")
    print(f"processor  {machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB")
    for line in gpus():
        print(f"graphics   {line}")
    versions = (f"{name} {number}" for name, number in machine.versions.items())
    print("packages   " + ", ".join(versions))
    problems = _problems_of_engines() + _problems_of_model() + _problems_of_cache()
    for problem in problems:
        print(f"problem    {problem}")
    print("ready: python -m bench run" if not problems else "not ready")
    return 2 if problems else 0


def _measure(options: argparse.Namespace) -> int:
    """Measure, print and store."""
    from bench.machine.measure import Effort, measure
    from bench.machine.predictions import PAPER, default_run, paper_run
    from bench.machine.records import default_file, write_machine
    from bench.machine.stages import seconds_of
    from bench.machine.tables import clock, machine_tables, stage_table

    machine = measure(options.engine, options.threads, Effort())
    path = options.out or default_file()
    write_machine(machine, path)
    engine = machine.main.name
    print(f"{machine.environment.processor}, {machine.threads} threads")
    print(f"\n{machine_tables(machine)}")
    _, stages = default_run(machine)
    print(f"\n{stage_table('the default run here', [(engine, stages)])}")
    paper = paper_run(machine)
    if paper is not None:
        _, stages_of_paper, remarks = paper
        print(f"\n{stage_table(PAPER, [(engine, stages_of_paper)])}")
        print("\n".join(remarks))
        print(f"\n{PAPER}, would take {clock(seconds_of(stages_of_paper))}")
    print(f"the default run would take {clock(seconds_of(stages))} here")
    print(f"measured in {machine.took_seconds:.0f} s; the file for plan --machine is {path}")
    return 0


def gpus() -> list[str]:
    """Return name and memory of every GPU that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return []
    devices = map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    return [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices]


def _problems_of_engines() -> list[str]:
    from bench.config import default_of
    from bench.registry import plugin, plugins

    problems = []
    for name in plugins("engine"):
        reason = plugin("engine", name).unavailable()
        print(f"engine     {name}: {reason or 'ready'}")
        if reason and name == default_of("engine"):
            problems.append(str(reason))
    return problems


def _problems_of_model() -> list[str]:
    from bench.errors import user_errors
    from bench.registry import plugin
    from engines.load import load

    try:
        denoiser = load(plugin("model", "tiny").source).denoiser
        plugin("labeler", "tiny").open()
    except user_errors() as error:
        return [str(error)]
    weights = sum(parameter.numel() for parameter in denoiser.module.parameters()) / 1e6
    print(f"model      tiny: {weights:.1f} M parameters in the denoiser; labeler ready")
    return []


def _problems_of_cache() -> list[str]:
    from engines.cache import default_cache

    cache = default_cache()
    home = cache
    while not home.exists():
        home = home.parent
    if not os.access(home, os.W_OK):
        return [f"the cache {cache} cannot be written; set SCENEBENCH_CACHE to another folder"]
    print(f"cache      {cache}, {shutil.disk_usage(home).free / 2**30:.0f} GiB free")
    return []
