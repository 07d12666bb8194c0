"""Load a diffusers folder or hub id as components, from safetensors only, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from transformers.utils import logging as transformers_logging

from engines.components import Components
from engines.configurations import INDEX, Configuration, read_object
from engines.errors import EngineError
from engines.family import Family, family_of
from engines.hub import fetched
from engines.samplers import default_sampler
from engines.silence import silenced
from engines.stored_weights import variant_of
from engines.validate import advice, quoted, require_complete, run_once


def load(source: str | Path) -> Components:
    """Load a diffusers folder, or download a hub id, in single precision.

    Raises EngineError if the source is no supported model, or a file is missing or damaged.
    """
    folder = folder_of(source)
    transformers_logging.disable_progress_bar()
    family, found = supported(folder)
    with silenced():
        components = _read(folder, family, found)
    for name, part in components.networks.items():
        part.requires_grad_(False).eval()
        broken = [
            key for key, value in part.state_dict().items() if not bool(torch.isfinite(value).all())
        ]
        if broken:
            raise EngineError(
                f"{folder / name}: {broken[0]} holds NaN or infinite weights; "
                "fetch or export it again"
            )
    require_working(components, folder)
    return components


def folder_of(source: str | Path) -> Path:
    """The local folder of a model. Raises EngineError if there is none."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if (
        isinstance(source, Path)
        or folder.exists()
        or str(source).startswith((".", "/"))
        or str(source).count("/") != 1
    ):
        raise EngineError(
            f"{source} is neither a diffusers model folder nor a hub id of the form owner/name"
        )
    return fetched(str(source))


def supported(folder: Path) -> tuple[Family, dict[str, Configuration]]:
    """The family of a folder and its parts' configurations, checked as far as files can tell.

    No weights are read, so that a plan, random weights and a run refuse the same folders. Raises
    EngineError if the model is not supported.
    """
    if not (folder / INDEX).is_file():
        raise EngineError(f"{folder} is not a diffusers model folder: it has no {INDEX}")
    index = read_object(folder / INDEX)
    family = family_of(folder, index)
    return family, family.configurations(folder, index)


def require_working(components: Components, folder: Path) -> None:
    """Run every part once. Raises EngineError if one does not work."""
    try:
        run_once(components)
    except Exception as error:
        raise EngineError(
            f"the model in {folder} does not work: {quoted(error)}; "
            "correct its configurations, or give parts that fit"
        ) from error


def assembled(
    folder: Path, family: Family, found: Mapping[str, Configuration], networks: Mapping[str, Any]
) -> Components:
    """The components of a folder from its networks, with its tokenizers."""
    index = read_object(folder / INDEX)
    tokenizers = {
        part: getattr(transformers, family.tokenizers[part][0]).from_pretrained(folder / part)
        for part in family.present(index)
        if part in family.tokenizers
    }
    schedule = dict(found["scheduler"])
    return Components(
        family=family,
        parts={**networks, **tokenizers},
        schedule=schedule,
        latent_shape=family.latent_shape(dict(found)),
        settings=family.settings(index),
        sampler_name=default_sampler(family.samplers, schedule),
    )


def network_class(family: Family, part: str) -> Any:
    """The class of a part with weights."""
    name = family.networks[part][0]
    return getattr(diffusers, name, None) or getattr(transformers, name)


def _read(folder: Path, family: Family, found: dict[str, Configuration]) -> Components:
    variants = {part: variant_of(folder / part) for part in found if part != "scheduler"}
    try:
        networks = {
            part: _network(network_class(family, part), folder / part, variant)
            for part, variant in variants.items()
        }
        for part, network in networks.items():
            # Checking may have put one side in place of a list.
            if "sample_size" in found[part] and isinstance(network, diffusers.ModelMixin):
                network.register_to_config(sample_size=found[part]["sample_size"])
        return assembled(folder, family, found, networks)
    except Exception as error:
        # The libraries raise anything from OSError to KeyError for a damaged folder.
        raise EngineError(
            f"cannot load the model in {folder}: {quoted(error)}; {advice(error)}"
        ) from error


def _network(kind: Any, folder: Path, variant: str | None) -> Any:
    options: dict[str, Any] = {"use_safetensors": True, "output_loading_info": True}
    if issubclass(kind, diffusers.ModelMixin):
        # Without low_cpu_mem_usage=False diffusers advises to install another package.
        options |= {"torch_dtype": torch.float32, "low_cpu_mem_usage": False}
    else:
        # Without ignore_mismatched_sizes transformers raises an error that points to a silenced
        # report.
        options |= {"dtype": torch.float32, "ignore_mismatched_sizes": True}
    return require_complete(kind.from_pretrained(folder, variant=variant, **options))
