"""A model's architecture with seeded random weights, to measure speed and memory only.

On the meta device it has shapes alone, which is enough to count operations and bytes.
"""

from __future__ import annotations

import pkgutil
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers import CLIPTextConfig

from engines.components import Components
from engines.configurations import INDEX, Configuration, read_object, text_configuration
from engines.errors import EngineError
from engines.family import Family, family_of
from engines.load import assembled, network_class, require_working, supported
from engines.silence import silenced
from engines.tokenizer_stand_ins import add_tokenizers
from engines.validate import advice, quoted

SEED = 0


def random_components(source: str | Path, words: Path, drawn: bool = True) -> Components:
    """All components of a folder, or of a hub id whose configurations are shipped.

    A shipped architecture has no vocabulary: its tokenizers are stand-ins, CLIP's the one in
    ``words``. Unless ``drawn``, the weights are on the meta device and take no memory. Drawing them
    changes the state of torch's global generator. Raises EngineError as ``load`` does.
    """
    torch.manual_seed(SEED)
    with _folder_of(source, words) as folder:
        components = _drawn(folder, *supported(folder), drawn)
        if drawn:
            require_working(components, folder)
    return components


def architecture_of(source: str | Path) -> Path | None:
    """The folder of configurations that is shipped for a hub id, if there is one."""
    package = import_module("engines.models")
    for entry in pkgutil.iter_modules(package.__path__):
        spec = import_module(f"engines.models.{entry.name}").MODEL
        if spec.source == source:
            found: Path | None = spec.architecture
            return found
    return None


@contextmanager
def _folder_of(source: str | Path, words: Path) -> Iterator[Path]:
    if Path(source).is_dir():
        yield Path(source)
        return
    architecture = architecture_of(source)
    if architecture is None:
        raise EngineError(
            f"the architecture of {source} is not known without its files; give its local folder "
            "with --model, or a model whose configurations are shipped (engines/models)"
        )
    with tempfile.TemporaryDirectory() as whole:
        folder = Path(shutil.copytree(architecture, whole, dirs_exist_ok=True))
        add_tokenizers(folder, family_of(folder, read_object(folder / INDEX)), words)
        yield folder


def _drawn(
    folder: Path, family: Family, found: dict[str, Configuration], drawn: bool
) -> Components:
    with _explained(folder):
        with nullcontext() if drawn else torch.device("meta"):
            networks = {
                part: _frozen(_network(folder, family, part, config))
                for part, config in found.items()
                if part != "scheduler"
            }
        return assembled(folder, family, found, networks)


def _network(folder: Path, family: Family, part: str, config: Configuration) -> Any:
    kind = network_class(family, part)
    if issubclass(kind, diffusers.ModelMixin):
        return kind.from_config(config)
    if kind.config_class is CLIPTextConfig:
        return kind(text_configuration(folder, part))
    return kind(kind.config_class.from_pretrained(folder / part))


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise EngineError for whatever the libraries raise for a configuration."""
    try:
        with silenced():
            yield
    except Exception as error:
        raise EngineError(
            f"cannot draw the model in {folder}: {quoted(error)}; {advice(error)}"
        ) from error


def _frozen(module: Any) -> Any:
    return module.requires_grad_(False).eval()
