"""Every family's models, saved by diffusers and loaded from their folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest

from engines.components import Components
from engines.conditioning import Conditioning
from engines.load import load
from tests.engines.families.reference import EMBEDDED, PROMPTS, TRANSFORMERS, pipeline_of
from tests.small_transformers import SHIPPED, save


@dataclass(frozen=True)
class Model:
    """A model, loaded twice."""

    folder: Path
    parts: Components
    pipeline: Any
    """diffusers' own."""

    @cached_property
    def conditioning(self) -> Conditioning:
        """Of the prompts, embedded once."""
        return self.parts.embed(PROMPTS)


Models = Callable[[str], Model]


@pytest.fixture(scope="session")
def models(small_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A model by its kind, loaded once. Flux and PixArt alpha are made smaller than they state."""

    @cache
    def model(kind: str) -> Model:
        if kind in TRANSFORMERS:
            folder = save(kind, tmp_path_factory.mktemp("families") / kind)
        else:
            folder = SHIPPED if kind == "shipped" else small_models[kind]
        parts = replace(load(folder), embedded_guidance=EMBEDDED)
        if parts.latent_shape[1] == 128:
            parts = parts.sized(32, 48)
        return Model(folder, parts, pipeline_of(folder))

    return model
