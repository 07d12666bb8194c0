from __future__ import annotations

import dataclasses

import pytest
import torch

from datasets.items import Item
from datasets.raycast import Rendered
from datasets.render import rendered, scenes_of
from datasets.scenes import Scene
from datasets.sets.scenes617 import DATASET


def joined(parts: list[Rendered]) -> Rendered:
    names = [field.name for field in dataclasses.fields(Rendered) if field.name != "attributes"]
    words = tuple(attributes for part in parts for attributes in part.attributes)
    return Rendered(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in names},
        attributes=words,
    )


@pytest.fixture(scope="session")
def held_out_scenes() -> list[Scene]:
    return scenes_of("held-out", 256)


@pytest.fixture(scope="session")
def scenes617() -> tuple[Item, ...]:
    return DATASET.items()


@pytest.fixture(scope="session")
def held_out(held_out_scenes: list[Scene]) -> Rendered:
    """256 held-out scenes, rendered once."""
    return joined(list(rendered(held_out_scenes)))
