"""What a profile measures on: a study of the trained model, or one of its architecture with random weights."""

from __future__ import annotations

from bench.config import Config
from bench.errors import MistakeError, mistakes
from bench.profiling.config import REFERENCE, ProfileConfig
from bench.study import Study, model_spec, open_study
from engines.models.tiny import MODEL as TINY


def open_profile_study(config: ProfileConfig) -> Study:
    """Resolve the model. Raises MistakeError, with the way out, when the trained model cannot be had."""
    asked = Config(
        model=config.model,
        weights=config.weights,
        engine=REFERENCE,
        sampler_steps=config.sampler_steps,
        threads=config.threads,
    )
    try:
        return open_study(asked)
    except mistakes() as error:
        if config.weights == "random" or model_spec(config.model).source == TINY.source:
            raise
        raise MistakeError(f"{error} (without weights, profile the architecture: --weights random)") from error
