"""Models, families, engines, datasets, labelers, tasks, claims and samplers that can be named."""

from __future__ import annotations

import argparse

_WIDTH = 22


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""


def command(_: argparse.Namespace) -> int:
    """Print every plugin with its summary."""
    from bench.registry import KINDS, plugins
    from engines.sampler_names import MODEL, SAMPLERS

    for kind in KINDS:
        print(f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s")
        summaries = plugins(kind)
        width = max(_WIDTH, *(len(name) + 2 for name in summaries))
        for name, summary in summaries.items():
            print(f"  {name:<{width}}{summary}")
    print("samplers")
    for name, kind in SAMPLERS.items():
        print(f"  {name:<{_WIDTH}}{kind} of diffusers")
    print(f"  {MODEL:<{_WIDTH}}the model's own, with its own settings")
    return 0
