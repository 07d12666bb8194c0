"""A cache of exported graphs and compiled models, and the hashes that name its folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from engines.checksum import sha256
from engines.errors import EngineError

SUMS = "sha256.json"
"""The checksums of a cached folder, which are written last."""
_BY_LIBRARY = ("transformers_version", "dtype", "torch_dtype")
"""Entries of a configuration that say nothing of the network."""
_UNFINISHED = ".unfinished-"
"""Start of the names of folders that are being filled."""
_ABANDONED_SECONDS = 24 * 3600.0
"""After as long without a new file, the process that filled a folder has ended."""


def default_cache() -> Path:
    """``$SCENEBENCH_CACHE``, else ``scenebench`` in the user's cache folder."""
    folder = os.environ.get("SCENEBENCH_CACHE")
    if folder:
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scenebench"


def key_of(facts: Mapping[str, object]) -> str:
    """A short hash of values that JSON can hold."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def hash_of_config(config: Mapping[str, object]) -> str:
    """A short hash of what a network's configuration says of it.

    Entries that tell which library wrote it, from where, or how it was loaded are left out.
    """
    kept = {k: str(v) for k, v in config.items() if not k.startswith("_") and k not in _BY_LIBRARY}
    return key_of(kept)


def hash_of_weights(state: Mapping[str, torch.Tensor]) -> str:
    """A short hash of the names, shapes and bytes of a module's parameters and buffers."""
    digest = hashlib.blake2b(digest_size=10)
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cached_folder(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return ``folder``, filled atomically by ``make`` if it does not exist.

    Raises EngineError if a file has changed since, or if the cache cannot be written.
    """
    if not folder.is_dir():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(folder.parent)
            building = Path(
                tempfile.mkdtemp(prefix=f"{_UNFINISHED}{folder.name}-", dir=folder.parent)
            )
        except OSError as error:
            raise EngineError(
                f"cannot write to the cache {folder.parent} ({error.strerror}); "
                "set SCENEBENCH_CACHE to a folder that can be written"
            ) from error
        try:
            make(building)
            sums = {file.name: sha256(file) for file in sorted(building.iterdir())}
            (building / SUMS).write_text(json.dumps(sums), encoding="utf-8")
            building.chmod(0o755)
            try:
                building.replace(folder)
            except OSError:
                # Another process may have finished the same folder meanwhile.
                if not folder.is_dir():
                    raise
        except OSError as error:
            raise EngineError(
                f"cannot fill the cache {folder.parent} ({error.strerror}); "
                "free space and run again"
            ) from error
        finally:
            shutil.rmtree(building, ignore_errors=True)
    try:
        sums = json.loads((folder / SUMS).read_text(encoding="utf-8"))
        damaged = (
            [name for name, value in sums.items() if sha256(folder / name) != value]
            if sums
            else [SUMS]
        )
    except (OSError, ValueError, AttributeError):
        damaged = [SUMS]
    if damaged:
        raise EngineError(
            f"{folder / damaged[0]} is damaged (its checksum does not match); "
            f"delete {folder} and run again"
        )
    return folder


def _remove_abandoned(store: Path) -> None:
    """Remove folders of ``store`` that a process left unfinished, such as one that was killed."""
    for folder in store.glob(f"{_UNFINISHED}*"):
        # Another process may remove it at the same time.
        with suppress(OSError):
            newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - newest > _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
