"""Generate a run's items again for their activations, which no run stores."""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from bench.networks import alone
from bench.study import Study
from datasets.splits import Block
from engines.engine import Engine
from extract.stream import Reducer


def generate(
    study: Study,
    engine: Engine,
    blocks: Sequence[Block],
    steps: Sequence[int],
    reducer: Reducer,
    bar: tqdm[None],
) -> None:
    """Generate blocks of items again, and pass the activations of ``steps`` to the reducer."""
    recorded = alone(study, engine, study.config.batch)
    for block in blocks:
        study.stream(recorded, block.items, [reducer], steps)
        bar.update(len(block.items))
