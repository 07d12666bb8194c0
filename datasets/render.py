"""Render a set of scenes for training: ``python -m datasets.render --set train --out FOLDER``.

The folder holds ``rgb.npy`` (uint8, n x 3 x 64 x 64) and ``prompts.txt`` (one line per image). With
``--labels`` it also holds exact labels: ``mask.npy`` (bool, n x 64 x 64, True on the salient solid)
and ``inverse_depth.npy`` (float16, n x 64 x 64, in 1/m).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from datasets.atomic_write import atomic_write
from datasets.errors import DatasetError
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


IMAGES = "rgb.npy"
LABELS = ("mask.npy", "inverse_depth.npy")
_ARRAYS: dict[str, Callable[[Rendered], np.ndarray]] = {
    IMAGES: lambda scenes: as_bytes(scenes.rgb).numpy(),
    "mask.npy": lambda scenes: scenes.mask.numpy(),
    "inverse_depth.npy": lambda scenes: scenes.disparity.half().numpy(),
}


def write_set(
    name: str, folder: Path, limit: int | None = None, processes: int = 1, labels: bool = False
) -> None:
    """Render what ``folder`` lacks of the set ``name``: its images, and with ``labels`` its labels.

    ``limit`` takes the first scenes only. Raises DatasetError if it is below 1, or if the folder
    holds other scenes.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"--limit {limit} renders no scene; give at least 1")
    prompts = folder / "prompts.txt"
    # The prompts are written last: without them no file of the folder is known to fit.
    done = prompts.exists()
    if done:
        _require_same(prompts, name, limit)
    present = {file for file in LABELS if (folder / file).exists()}
    wanted = set(LABELS) if labels else set()
    missing = sorted(wanted - present) if done else [IMAGES, *sorted(wanted | present)]
    if not missing:
        return
    folder.mkdir(parents=True, exist_ok=True)
    scenes = scenes_of(name, limit)
    with ExitStack() as files:
        paths = {file: files.enter_context(atomic_write(folder / file)) for file in missing}
        _write_arrays(scenes, paths, processes)
    if IMAGES in missing:
        with atomic_write(prompts) as path:
            path.write_text(
                "".join(f"{scene.attributes.prompt}\n" for scene in scenes), encoding="utf-8"
            )


def _require_same(prompts: Path, name: str, limit: int | None) -> None:
    """Raise DatasetError if the file holds prompts of another set, or another number of them."""
    found = prompts.read_text(encoding="utf-8").splitlines()
    count = SETS[name][1] if limit is None else min(limit, SETS[name][1])
    if len(found) != count:
        raise DatasetError(
            f"{prompts.parent} holds {len(found)} scenes, not {count}; "
            f"give --limit {len(found)} or another --out"
        )
    first = [scene.attributes.prompt for scene in scenes_of(name, min(count, CHUNK))]
    if found[:CHUNK] != first:
        raise DatasetError(
            f"{prompts.parent} holds other scenes than those of the set {name}; "
            "give another --set or another --out"
        )


def _write_arrays(scenes: list[Scene], paths: dict[str, Path], processes: int) -> None:
    """Write one array for each file name of ``paths``."""
    chunks = [scenes[start : start + CHUNK] for start in range(0, len(scenes), CHUNK)]
    arrays_of = partial(_arrays_of, files=tuple(paths))
    arrays: list[np.memmap] = []
    done = 0
    with get_context("spawn").Pool(processes) if processes > 1 else nullcontext() as pool:
        for parts in map(arrays_of, chunks) if pool is None else pool.imap(arrays_of, chunks, 8):
            arrays = arrays or [
                np.lib.format.open_memmap(
                    path, mode="w+", dtype=part.dtype, shape=(len(scenes), *part.shape[1:])
                )
                for path, part in zip(paths.values(), parts, strict=True)
            ]
            for array, part in zip(arrays, parts, strict=True):
                array[done : done + len(part)] = part
            done += len(parts[0])
    for array in arrays:
        array.flush()


def _arrays_of(scenes: list[Scene], files: tuple[str, ...]) -> list[np.ndarray]:
    torch.set_num_threads(1)
    chunk = render(scenes, SIZE)
    return [_ARRAYS[file](chunk) for file in files]


def main() -> None:
    """Render a set of scenes."""
    parser = argparse.ArgumentParser(prog="python -m datasets.render", description=__doc__)
    parser.add_argument("--set", choices=sorted(SETS), default="train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="render only the first LIMIT scenes")
    parser.add_argument(
        "--processes", type=int, default=1, help="number of processes (default %(default)s)"
    )
    parser.add_argument("--labels", action="store_true", help="also write the exact labels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    try:
        write_set(
            arguments.set, arguments.out, arguments.limit, arguments.processes, arguments.labels
        )
    except DatasetError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
