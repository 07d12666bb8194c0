"""Versions, machine and commit, as a run stores them."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from bench.config import COMMAND
from bench.options.validation import Record

PACKAGES = (
    "scenebench",
    "torch",
    "diffusers",
    "transformers",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "numpy",
    "scipy",
    "scikit-learn",
)
ENGINES = ("openvino", "tensorrt", "tensorrt-rtx")
"""Packages that can change a score only through their own engines."""


class Environment(Record, extra="allow"):
    """``environment.json``: the machine and the installation that made a run."""

    python: str = ""
    platform: str = ""
    processor: str | None = None
    cores: int
    memory_gib: float | None = None
    gpus: tuple[str, ...] = ()
    """Names of the NVIDIA GPUs; absent, like the next two, where there is none."""
    driver: str | None = None
    cuda: str | None = None
    versions: Annotated[dict[str, str], Field(min_length=1)]
    """Package -> version."""
    commit: str | None = None
    """Of the code, with a plus where files differ from it; None outside a checkout."""
    command: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what the file holds."""
        return self.model_dump(mode="json", exclude_unset=True)


def versions(engine: str | None = None) -> dict[str, str]:
    """Return installed versions of packages that can change a score of ``engine``, or of any."""
    installed = {}
    # By any part of an engine's name: ONNX Runtime has engines that pass the work to these.
    engines = (name for name in ENGINES if engine is None or name.partition("-")[0] in engine)
    for name in (*PACKAGES, *engines):
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def environment() -> Environment:
    """Describe this machine and installation."""
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **_gpus(),
        versions=versions(),
        commit=_commit(),
        command=f"{COMMAND} {shlex.join(sys.argv[1:])}",
    )


def _output(*command: str) -> str | None:
    """Return what a program prints; None where it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _gpus() -> dict[str, Any]:
    """Names of the NVIDIA GPUs, their driver and the CUDA version of PyTorch; empty without any."""
    lines = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not lines:
        return {}
    gpus, drivers = zip(*(line.rsplit(", ", 1) for line in lines.splitlines()), strict=True)
    import torch

    return {"gpus": gpus, "driver": drivers[0], "cuda": torch.version.cuda}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """Return the commit of the code, with a plus where files differ; None outside a checkout.

    A checkout of another project that the package is installed in is none of this code.
    """
    here = Path(__file__).resolve().parent.parent
    git = ("git", "-C", str(here))
    top = _output(*git, "rev-parse", "--show-toplevel")
    if top is None or Path(top.strip()).resolve() != here:
        return None
    commit, changes = _output(*git, "rev-parse", "HEAD"), _output(*git, "status", "--porcelain")
    if commit is None or changes is None:
        return None
    return commit + ("+" if changes else "")
