"""Models, families of models, engines, datasets, labelers, tasks and claims that can be named."""

from __future__ import annotations

import argparse

_WIDTH = 22


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""


def command(_: argparse.Namespace) -> int:
    """Print every plugin with its summary."""
    from bench.registry import KINDS, plugins

    for kind in KINDS:
        print(f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s")
        summaries = plugins(kind)
        width = max(_WIDTH, *(len(name) + 2 for name in summaries))
        for name, summary in summaries.items():
            print(f"  {name:<{width}}{summary}")
    return 0
