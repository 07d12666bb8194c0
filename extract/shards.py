"""Shards: finished work on disk, in files that are written whole and verified when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from datasets.atomic_write import atomic_write
from extract.errors import ExtractError


class Shards:
    """The shards of one configuration.

    Their folder is named after a fingerprint of everything that determines the results, so shards
    of different configurations never mix.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint
        self.fingerprint = fingerprint

    def done(self, name: str) -> bool:
        """Whether the shard exists."""
        return self._path(name).exists()

    def damage(self, name: str) -> str | None:
        """Read an existing shard and return a description of its damage, or None if it is valid."""
        try:
            self.read(name)
        except ExtractError as error:
            return str(error)
        return None

    def get(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Read the shard ``name``; if it is missing or damaged, make and store it first."""
        if self.done(name):
            with suppress(ExtractError):
                return self.read(name)
        self.write(name, make())
        return self.read(name)

    def remove(self) -> None:
        """Delete all shards of this configuration, and the parent folder if it is then empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        # rmdir fails where the parent folder holds shards of another configuration.
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store a shard atomically. Raises ExtractError when it cannot be written.

        The system writes it to the disk while the run goes on; a shard that a power cut has cut
        short does not match its checksums.
        """
        path = self._path(name)
        metadata = {
            "fingerprint": self.fingerprint,
            "name": name,
            "sha256": json.dumps(_digests(tensors)),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                save_file(dict(tensors), partial, metadata=metadata)
                set_default_permissions(partial)
        except (OSError, SafetensorError) as error:
            raise ExtractError(
                f"cannot write {path} ({error}); free disk space or name another folder with "
                "--out and run again"
            ) from error
        _SYNCING.submit(_synced, path)

    def read(self, name: str, select: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
        """Read the tensors of a shard whose names satisfy ``select``; only these are verified.

        Raises ExtractError when the shard is missing or damaged.
        """
        path = self._path(name)
        try:
            with safe_open(path, framework="pt") as stored:
                metadata = dict(stored.metadata() or {})
                digests = json.loads(metadata.pop("sha256", "{}"))
                is_expected = metadata == {"fingerprint": self.fingerprint, "name": name}
                if not is_expected or digests.keys() != set(stored.keys()):
                    raise ExtractError(
                        f"the shard {path} is damaged (its content does not match its name); "
                        f"{_REMEDY}"
                    )
                tensors = {key: stored.get_tensor(key) for key in sorted(digests) if select(key)}
        except (OSError, ValueError, AttributeError, SafetensorError) as error:
            raise ExtractError(f"the shard {path} is damaged ({error}); {_REMEDY}") from error
        for key, digest in _digests(tensors).items():
            if digest != digests[key]:
                raise ExtractError(
                    f"the shard {path} is damaged (the checksum of {key} does not match); {_REMEDY}"
                )
        return tensors


_SYNCING = ThreadPoolExecutor(1, "sync")


def _synced(path: Path) -> None:
    """Have the system write a file to the disk; it may be gone already."""
    with suppress(OSError), path.open("rb") as stream:
        os.fsync(stream.fileno())


def set_default_permissions(path: Path) -> None:
    """Apply the permissions that the umask gives a new file; safetensors creates private files."""
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


_REMEDY = "only this shard is computed again when its run is run again"


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: _digest(value) for name, value in tensors.items()}


def _digest(tensor: Tensor) -> str:
    value = tensor.detach().contiguous()
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode())
    digest.update(value.reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
