"""The paper's 617 prompts and seeds, 246 to train and 371 to test, from the authors' two files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.errors import DatasetError
from datasets.items import Dataset, Item

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY = "https://raw.githubusercontent.com/yc015/scene-representation-diffusion-model"
COMMIT = "de20092789e87f81d9c7f3684c386139575d1183"
FILES = {
    "train": (
        "train_split_prompts_seeds.csv",
        "f7d0d001e82bc3e6798e6da86d5b8712ceeb76c8b0622113bf2d68a754f3841e",
    ),
    "test": (
        "test_split_prompts_seeds.csv",
        "6e1833810d8aaaed112112acca18d299f44a6963ca20697e4ae51d0fb3f39c7b",
    ),
}
"""Split -> (name, SHA-256) of the authors' file. Earlier commits lack non-ASCII letters."""
TRAIN_COPY = ".ipynb_checkpoints/train_split_prompts_seeds-checkpoint.csv"
"""Path of the training file at that commit; its checksum is verified."""


def _items(folder: Path | None = None) -> tuple[Item, ...]:
    if folder is None:
        names = " and ".join(name for name, _ in FILES.values())
        raise DatasetError(
            f"the dataset paper617 is read from the authors' files {names}; "
            "name their folder with --prompts, or download them with --fetch"
        )
    return (*_read(folder, "train"), *_read(folder, "test"))


def _read(folder: Path, split: str) -> tuple[Item, ...]:
    import hashlib

    from datasets.prompts import read_lines

    name, expected = FILES[split]
    path = folder / name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(
            f"cannot read {path} ({reason}); name the folder of the authors' files with --prompts, "
            "or download them with --fetch"
        ) from error
    if digest != expected:
        raise DatasetError(
            f"{path} is not the authors' file "
            f"(SHA-256 {digest[:12]}..., expected {expected[:12]}...); "
            "download it again with --fetch, or name a changed file with --dataset FILE.csv"
        )
    return tuple(
        # The id is the image's index in the authors' file names.
        Item(
            f"{int(line.id or 0):07d}",
            line.prompt,
            line.seed or 0,
            "train" if split == "train" else "test",
        )
        for line in read_lines(path)
    )


def _fetch(cache: Path) -> Path:
    import logging

    import pooch

    # Otherwise it logs every download on the error stream.
    pooch.get_logger().setLevel(logging.ERROR)
    folder = cache / "paper617"
    base = f"{REPOSITORY}/{COMMIT}/"
    files = pooch.create(
        path=folder,
        base_url=base,
        urls={FILES["train"][0]: base + TRAIN_COPY},
        registry={name: f"sha256:{digest}" for name, digest in FILES.values()},
    )
    for name, _ in FILES.values():
        try:
            files.fetch(name)
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"cannot download {files.get_url(name)} to {folder} ({type(error).__name__}); "
                "name the folder of the authors' files with --prompts"
            ) from error
    return folder


DATASET = Dataset(items=_items, fetch=_fetch)
