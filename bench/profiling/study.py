"""What a profile measures on: a study of the trained model, or one of its architecture with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.config import Config
from bench.errors import MistakeError, mistakes
from bench.profiling.config import REFERENCE, ProfileConfig
from bench.runs.folder import stored_options
from bench.study import NETWORKS, Study, model_spec, open_study
from engines.models.tiny import MODEL as TINY


def open_profile_study(config: ProfileConfig) -> Study:
    """Resolve the model. Raises MistakeError, with the way out, when the trained model cannot be had."""
    labeled = _labels_of(config.run)
    asked = Config(
        **labeled,
        model=config.model,
        weights=config.weights,
        engine=REFERENCE,
        sampler_steps=config.sampler_steps,
        threads=config.threads,
    )
    try:
        return open_study(asked, labels=bool(labeled))
    except mistakes() as error:
        if config.weights == "random" or model_spec(config.model).source == TINY.source:
            raise
        raise MistakeError(f"{error} (without weights, profile the architecture: --weights random)") from error


def _labels_of(run: str | None) -> dict[str, Any]:
    """What labels the pictures of a run whose probes are applied; without one no label is scored."""
    if run is None:
        return {}
    stored = stored_options(Path(run))
    names = ("labeler", "saliency_size", *NETWORKS)
    return {
        name: tuple(value) if isinstance(value := stored[name], list) else value for name in names if name in stored
    }
