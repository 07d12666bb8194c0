"""Render a set of scenes for training: ``python -m datasets.render --set train --out FOLDER``.

The folder holds ``rgb.npy`` (uint8, n x 3 x 64 x 64) and ``prompts.txt`` (one line per image).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from datasets.label_cache import as_bytes
from datasets.raycast import Rendered, render
from datasets.scenes import Scene, draw_scene

SIZE = 64
CHUNK = 16
"""Scenes rendered at once: 16 fit the processor's cache and take half the time of 64."""

SETS: dict[str, tuple[int, int]] = {"train": (1, 20480), "held-out": (2, 1024)}
"""Set -> (seed, number of scenes). The probing set scenes617 has a seed of its own."""


def scenes_of(name: str, limit: int | None = None) -> list[Scene]:
    """The scenes of the set ``name``, or its first ``limit``."""
    seed, count = SETS[name]
    return [
        draw_scene(seed, index) for index in range(count if limit is None else min(limit, count))
    ]


def rendered(scenes: list[Scene], size: int = SIZE) -> Iterator[Rendered]:
    """Render ``scenes`` in order, a chunk at a time."""
    for start in range(0, len(scenes), CHUNK):
        yield render(scenes[start : start + CHUNK], size)


def write_set(name: str, folder: Path, limit: int | None = None, processes: int = 1) -> None:
    """Render the set ``name`` into ``folder``, unless that is done."""
    if (folder / "prompts.txt").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    scenes = scenes_of(name, limit)
    rgb = np.lib.format.open_memmap(
        folder / "rgb.npy", mode="w+", dtype=np.uint8, shape=(len(scenes), 3, SIZE, SIZE)
    )
    chunks = [scenes[start : start + CHUNK] for start in range(0, len(scenes), CHUNK)]
    done = 0
    with get_context("spawn").Pool(processes) if processes > 1 else nullcontext() as pool:
        images = map(_bytes_of, chunks) if pool is None else pool.imap(_bytes_of, chunks, 8)
        for chunk in images:
            rgb[done : done + len(chunk)] = chunk
            done += len(chunk)
    rgb.flush()
    (folder / "prompts.txt").write_text(
        "".join(f"{scene.attributes.prompt}\n" for scene in scenes), encoding="utf-8"
    )


def _bytes_of(scenes: list[Scene]) -> np.ndarray:
    torch.set_num_threads(1)
    return as_bytes(render(scenes, SIZE).rgb).numpy()


def main() -> None:
    """Render a set of scenes."""
    parser = argparse.ArgumentParser(prog="python -m datasets.render", description=__doc__)
    parser.add_argument("--set", choices=sorted(SETS), default="train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="render only the first LIMIT scenes")
    parser.add_argument(
        "--processes", type=int, default=1, help="number of processes (default %(default)s)"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write_set(arguments.set, arguments.out, arguments.limit, arguments.processes)


if __name__ == "__main__":
    main()
