"""Models, families of models, engines, datasets, labelers and tasks that can be named."""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""


def command(_: argparse.Namespace) -> int:
    """Print every plugin with its summary."""
    from bench.registry import KINDS, plugins

    for kind in KINDS:
        print(f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s")
        for name, summary in plugins(kind).items():
            print(f"  {name:<22}{summary}")
    return 0
