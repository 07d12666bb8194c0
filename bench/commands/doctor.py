"""What works on this machine, and what is missing."""

from __future__ import annotations

import argparse
import os
import shutil

from bench.environment import environment
from bench.registry import plugin, plugins


def arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def command(_: argparse.Namespace) -> int:
    """Print the findings; 2 if the default run could not work."""
    return print_doctor()


def print_doctor() -> int:
    """Print what was found; 0 when the default run can start."""
    facts = environment()
    print(f"python     {facts['python']} on {facts['platform']}")
    print(f"processor  {facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB")
    for line in cards():
        print(f"graphics   {line}")
    versions = facts["versions"]
    assert isinstance(versions, dict)
    print("packages   " + ", ".join(f"{name} {number}" for name, number in versions.items()))
    problems = []
    for name in plugins("engine"):
        reason = plugin("engine", name).unavailable()
        print(f"engine     {name}: {reason or 'ready'}")
        if reason and name == "onnxruntime":
            problems.append(reason)
    problems += _problems_of_model() + _problems_of_cache()
    for problem in problems:
        print(f"problem    {problem}")
    print("ready: python -m bench run" if not problems else "not ready")
    return 2 if problems else 0


def cards() -> list[str]:
    """Name and memory of every GPU that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return []
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [f"{card.name}, {card.total_memory / 2**30:.0f} GiB" for card in found]


def _problems_of_model() -> list[str]:
    from bench.errors import mistakes
    from engines.load import load

    try:
        unet = load(plugin("model", "tiny").source).unet
        plugin("labeler", "tiny").open()
    except mistakes() as error:
        return [str(error)]
    weights = sum(parameter.numel() for parameter in unet.parameters()) / 1e6
    print(f"model      tiny: {weights:.1f} M parameters in the UNet; labeler ready")
    return []


def _problems_of_cache() -> list[str]:
    from engines.cache import default_cache

    cache = default_cache()
    home = cache
    while not home.exists():
        home = home.parent
    if not os.access(home, os.W_OK):
        return [f"the cache {cache} cannot be written; set SCENEBENCH_CACHE to a folder that can"]
    print(f"cache      {cache}, {shutil.disk_usage(home).free / 2**30:.0f} GiB free")
    return []
