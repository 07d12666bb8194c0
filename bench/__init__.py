"""The experiment, its measurements, and everything derived from them.

``from bench import Config, run, read_run`` is the interface for notebooks. The names are imported
when they are first used, so that the command line starts without PyTorch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.config import Config
    from bench.run import run
    from bench.runs.read import read_run

__all__ = ["Config", "read_run", "run"]

_HOMES = {"Config": "bench.config", "read_run": "bench.runs.read"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    """A package whose attribute ``run`` is the function, also after ``import bench.run``.

    That import sets the attribute to the module of the same name, which this class ignores; the
    module is reached by ``from bench.run import ...`` or ``importlib.import_module("bench.run")``.
    """

    @property
    def run(self) -> Any:
        """The function that runs the experiment."""
        return import_module("bench.run").run

    @run.setter
    def run(self, module: ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
