"""What works on this machine, and what is missing."""

from __future__ import annotations

import argparse
import os
import shutil


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""


def command(_: argparse.Namespace) -> int:
    """Print machine, packages and engines; 2 if the default run cannot start."""
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
