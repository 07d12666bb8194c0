"""Resolve the model of a configuration: its source, size, sampler and strengths of guidance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from bench.config import Config
from bench.errors import UserError
from bench.options.typed import nearest, typed_path
from bench.registry import plugin, plugins
from engines.components import Components
from engines.engine import ModelSpec
from engines.load import load
from engines.models.tiny import MODEL as TINY
from engines.random_weights import architecture_of, random_components


def is_model(name: str) -> bool:
    """Whether a name is that of a model, or may be a folder or hub id."""
    return name in plugins("model") or "/" in name or typed_path(name).exists()


def model_spec(name: str) -> ModelSpec:
    """Return a model by name, folder or hub id. Raises UserError."""
    models = plugins("model")
    if name in models:
        spec = plugin("model", name)
        assert isinstance(spec, ModelSpec)
        return spec
    path = typed_path(name)
    if path.is_file():
        raise UserError(
            f"{name} is a file, neither a diffusers model folder nor a hub id; give such a folder "
            "(diffusers' from_single_file and save_pretrained make one of a file of weights)"
        )
    if path.exists() or "/" in name:
        return ModelSpec(source=name, guidance=None, labeler=None)
    raise UserError(
        f"there is no model {name!r}{nearest(name, list(models))} "
        "(or give a diffusers folder or hub id)"
    )


def components_of(source: str | Path, weights: str, drawn: bool = True) -> Components:
    """Load a model's components, or draw random weights for its architecture.

    Unless ``drawn``, no weights are read or drawn where the model's configurations are at hand.
    """
    at_hand = Path(source).is_dir() or architecture_of(source) is not None
    if weights == "random" or (not drawn and at_hand):
        return random_components(source, Path(TINY.source) / "tokenizer", drawn)
    return load(source)


@dataclass(frozen=True, slots=True)
class Strengths:
    """Strengths of guidance."""

    rows: float | None
    """By a second half of the batch with the empty prompt; None without one."""
    embedded: float | None
    """As an input of the denoiser; None where it reads none."""


def strengths_of(config: Config, spec: ModelSpec, components: Components) -> Strengths:
    """Return the strengths, by default the model's or its family's. Raises UserError."""
    family, denoiser = components.family, components.denoiser.config
    default = family.guidance if spec.guidance is None else spec.guidance
    strength = float(default if config.guidance is None else config.guidance)
    if family.guides_by_rows:
        if config.true_guidance is not None:
            raise UserError(f"{family.title} has one strength of guidance; give --guidance alone")
        return Strengths(strength, None)
    embedded = strength if family.embeds_guidance(denoiser) else None
    if embedded is None and config.guidance is not None:
        raise UserError(
            f"this {family.title} model reads no strength of guidance; give --true-guidance"
        )
    return Strengths(config.true_guidance, embedded)


def chosen_components(config: Config, spec: ModelSpec, drawn: bool = True) -> Components:
    """Load a model as a configuration wants it: size, sampler, guidance. Raises UserError."""
    components = components_of(spec.source, config.weights, drawn)
    if config.size:
        components = components.sized(config.size[0], config.size[-1])
    if config.sampler is not None:
        components = replace(components, sampler_name=config.sampler)
    # A sampler that does not fit ends the run before anything is exported.
    components.sampler(config.sampler_steps)
    embedded = strengths_of(config, spec, components).embedded
    if embedded is not None:
        components = replace(components, embedded_guidance=embedded)
    return replace(components, half_decoding=plugin("engine", config.engine).precision == "fp16")
