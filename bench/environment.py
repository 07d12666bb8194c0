"""What a run ran on: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.config import COMMAND

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
"""Packages that move a figure only where their own engine computes it."""


def versions(engine: str | None = None) -> dict[str, str]:
    """Installed versions of the packages that can move a figure of ``engine``, by default of any."""
    found = {}
    # By any part of its name: ONNX Runtime has engines that hand the work to these.
    for name in (
        *PACKAGES,
        *(name for name in ENGINES if engine is None or name.partition("-")[0] in engine),
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def environment() -> dict[str, object]:
    """Facts about this machine and installation, for the run folder."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        **_gpus(),
        "versions": versions(),
        "commit": _commit(),
        "command": f"{COMMAND} {shlex.join(sys.argv[1:])}",
    }


def _gpus() -> dict[str, object]:
    """Names of the NVIDIA GPUs, their driver and the CUDA version of PyTorch; empty where there is none."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        lines = (
            subprocess.run(query, capture_output=True, text=True, check=True)
            .stdout.strip()
            .splitlines()
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    if not lines:
        return {}
    names, drivers = zip(*(line.rsplit(", ", 1) for line in lines), strict=True)
    import torch

    return {"gpus": list(names), "driver": drivers[0], "cuda": torch.version.cuda}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The commit of the code, with a plus where files differ from it; None outside a checkout."""
    root = Path(__file__).parent.parent
    git = ["git", "-C", str(root)]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("+" if dirty.strip() else "")
