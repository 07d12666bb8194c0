"""Finished work on disk: a shard is one file that appears whole, knows what determined it, and is checked when read."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, uint8

from datasets.atomic_write import atomic_write
from extract.errors import ExtractError


class Shards:
    """The shards of one configuration.

    They lie in a folder named after a fingerprint of everything that determines them, so that another configuration
    never meets them.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder / fingerprint
        self.fingerprint = fingerprint

    def done(self, name: str) -> bool:
        """Whether the shard is there."""
        return self._path(name).exists()

    def damage(self, name: str) -> str | None:
        """What is wrong with a shard that is there, in words; None if nothing. It is read for that."""
        try:
            self.read(name)
        except ExtractError as error:
            return str(error)
        return None

    def get(self, name: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The shard ``name``, from disk, or made and stored now: so is one that is damaged."""
        if self.done(name):
            with suppress(ExtractError):
                return self.read(name)
        self.write(name, make())
        return self.read(name)

    def remove(self) -> None:
        """Forget all shards: what was made of them is safe."""
        shutil.rmtree(self.folder, ignore_errors=True)
        # Unless it holds those of another configuration.
        with suppress(OSError):
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def write(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Store a shard, whole or not at all. Raises ExtractError when it cannot be written."""
        path = self._path(name)
        facts = {
            "fingerprint": self.fingerprint,
            "name": name,
            "sha256": json.dumps(_digests(tensors)),
        }
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as partial:
                save_file(dict(tensors), partial, metadata=facts)
                as_new(partial)
                with partial.open("rb") as stream:
                    os.fsync(stream.fileno())
        except (OSError, SafetensorError) as error:
            raise ExtractError(
                f"cannot write {path} ({error}); free or name another folder with --out and run again"
            ) from error

    def read(self, name: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Tensor]:
        """A stored shard, or those of its tensors whose name is ``wanted``: no other is read, nor checked.

        Raises ExtractError when it is missing or damaged.
        """
        path = self._path(name)
        try:
            with safe_open(path, framework="pt") as stored:
                facts = dict(stored.metadata() or {})
                digests = json.loads(facts.pop("sha256", "{}"))
                if facts != {
                    "fingerprint": self.fingerprint,
                    "name": name,
                } or digests.keys() != set(stored.keys()):
                    raise ExtractError(
                        f"the shard {path} is damaged (it is not what its name says); {_MEND}"
                    )
                tensors = {key: stored.get_tensor(key) for key in sorted(digests) if wanted(key)}
        except (OSError, ValueError, AttributeError, SafetensorError) as error:
            raise ExtractError(f"the shard {path} is damaged ({error}); {_MEND}") from error
        for key, digest in _digests(tensors).items():
            if digest != digests[key]:
                raise ExtractError(
                    f"the shard {path} is damaged (the checksum of {key} does not match); {_MEND}"
                )
        return tensors


def as_new(path: Path) -> None:
    """Give a file the permissions of any new file of this user's: safetensors makes its own for nobody else to read."""
    umask = os.umask(0o077)
    os.umask(umask)
    path.chmod(0o666 & ~umask)


_MEND = "it alone is made again when its run is run again"


def _digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: _digest(value) for name, value in tensors.items()}


def _digest(tensor: Tensor) -> str:
    value = tensor.detach().contiguous()
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)}".encode())
    digest.update(value.reshape(-1).view(uint8).numpy().data)
    return digest.hexdigest()
