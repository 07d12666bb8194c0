"""Cache a slow labeler's labels by the bytes of the image.

One file per image below ``<cache>/labels/<labeler>``: a checksum, then safetensors (about 1.1 MB
for 512 x 512 pixels). A file that does not match its checksum is written again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load, save
from torch import Tensor

from datasets.atomic_write import atomic_write
from datasets.errors import DatasetError
from datasets.labeler import WrappedReader
from datasets.labels import Labels, concatenate

_SUM_BYTES = 32
_FORMAT = 2
"""Raise it when the file format changes, so that older files are not used."""


def as_bytes(images: Float[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
    """Images in 0..1 as 8-bit values."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, slots=True)
class CachedReader(WrappedReader):
    """A labeler with a cache. It labels images of 8 bits, so that equal keys are equal images."""

    cache: Path

    @property
    def folder(self) -> Path:
        """Folder of this labeler's labels."""
        digest = hashlib.sha256(f"{_FORMAT} {self.fingerprint}".encode()).hexdigest()
        return self.cache / "labels" / digest[:20]

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Labels:
        """Label images in 0..1, from the cache if possible."""
        return concatenate([self._one(image) for image in as_bytes(images).cpu()]).to(images.device)

    def _one(self, image: UInt8[Tensor, "3 h w"]) -> Labels:
        key = hashlib.sha256(f"{tuple(image.shape)}".encode() + image.numpy().tobytes()).hexdigest()
        file = self.folder / key[:2] / f"{key}.labels"
        labels = _read(file)
        if labels is None:
            labels = self.reader(image[None].float() / 255)
            _write(file, labels)
        return labels


def _read(file: Path) -> Labels | None:
    try:
        stored = file.read_bytes()
    except OSError:
        return None
    body = stored[_SUM_BYTES:]
    if hashlib.sha256(body).digest() != stored[:_SUM_BYTES]:
        return None
    return labels_of(body)


def _write(file: Path, labels: Labels) -> None:
    body = bytes_of(labels)
    write_whole(file, hashlib.sha256(body).digest() + body)


def bytes_of(labels: Labels) -> bytes:
    """Serialise labels as safetensors, with masks packed to bits."""
    tensors = {}
    for name, value in labels.tensors().items():
        value = value.cpu().contiguous()
        if value.dtype == torch.bool:
            # The name holds the width: the last byte of a row may be partly used.
            name = f"{name}:{value.shape[-1]}"
            value = torch.from_numpy(np.packbits(value.numpy(), axis=-1))
        tensors[name] = value
    body: bytes = save(tensors)
    return body


def labels_of(body: bytes) -> Labels:
    """The inverse of :func:`bytes_of`."""
    tensors = {}
    for key, value in load(body).items():
        name, _, width = key.partition(":")
        if width:
            mask = np.unpackbits(value.numpy(), axis=-1, count=int(width)).astype(bool)
            value = torch.from_numpy(mask)
        tensors[name] = value
    return Labels(**tensors)


def write_whole(file: Path, body: bytes) -> None:
    """Write a file atomically. Raises DatasetError if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as partial:
            partial.write_bytes(body)
    except OSError as error:
        raise DatasetError(
            f"cannot write {file} ({error.strerror}); "
            "free space or name another folder (--out, SCENEBENCH_CACHE)"
        ) from error
