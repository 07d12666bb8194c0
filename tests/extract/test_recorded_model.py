"""The sources of a recorded model: costs, fitted sources, and independence of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.conditioning import Conditioning
from engines.engine import Prediction
from extract.sources import ActivationSource, Start, StepReader, own
from extract.stream import BlockInput, BlockOutput, RecordedModel, stream
from tests.extract.recording import PROMPTS, SEEDS, Recorder, label

STEPS = 3


def run(
    recorded: RecordedModel, items: slice, probed: Sequence[int] = range(STEPS)
) -> tuple[Recorder, BlockOutput]:
    recorder = Recorder()
    block = BlockInput(PROMPTS[items], SEEDS[items])
    output, _ = stream(recorded, block, [recorder], probed, label)
    return recorder, output


def constant(value: float, rows: int = 0, fitted: bool = True) -> ActivationSource:
    return ActivationSource(
        lambda _: lambda step: {"only": torch.full((step.conditioning.rows, 4, 2), value)},
        rows,
        fitted,
    )


@pytest.fixture
def mixed(components: Components, eager: TorchEager) -> RecordedModel:
    """Sources with and without costs in arbitrary order, one of them not fitted."""
    sources = {
        "free": constant(1),
        "unfit": constant(2, 3, False),
        "last": constant(3, 2),
        "other": constant(4, 1),
    }
    return RecordedModel(components, eager, sources, STEPS, 3.0, 16)


def test_rows_of_the_table_of_costs_name_their_network(mixed: RecordedModel) -> None:
    assert mixed.timed == ("trained", "unfit", "last", "other")
    for recorded in (mixed, mixed.fitted):
        _, output = run(recorded, slice(0, 2), probed=(1,))
        table = [tuple(row) for row in output.cost_table()[:, :3].int().tolist()]
        costs = [(step, recorded.timed[network], rows) for step, network, rows in table]
        others = [("unfit", 6), ("last", 4), ("other", 2)][0 if recorded is mixed else 1 :]
        trained = [(step, "trained", 4) for step in range(STEPS)]
        assert costs == [*trained[:2], *((1, *cost) for cost in others), *trained[2:]]


def test_sources_without_probes_are_not_recorded_in_training(mixed: RecordedModel) -> None:
    every, fitted = run(mixed, slice(0, 1))[0], run(mixed.fitted, slice(0, 1))[0]
    assert {network for _, network, _ in every.activations} == {"free", "unfit", "last", "other"}
    assert {network for _, network, _ in fitted.activations} == {"free", "last", "other"}
    for site, activation in fitted.activations.items():
        assert torch.equal(activation, every.activations[site])


def test_a_source_begins_again_for_every_block(mixed: RecordedModel) -> None:
    begun: list[tuple[int, ...]] = []

    def begin(start: Start) -> StepReader:
        begun.append(tuple(start.noise.shape))
        return lambda _: {}

    recorded = replace(mixed, sources={"counted": ActivationSource(begin)})
    for items in (slice(0, 1), slice(1, 3)):
        run(recorded, items)
    assert begun == [(n, *mixed.components.latent_shape) for n in (1, 2)]


@pytest.mark.parametrize("probed", [(0, 2), (1,), (0, 1, 2)])
def test_costs_of_a_network_on_its_own_trajectory_include_steps_that_are_not_probed(
    mixed: RecordedModel, components: Components, eager: TorchEager, probed: tuple[int, ...]
) -> None:
    rows_of_calls: list[int] = []

    def counted(latents: Tensor, timestep: float, text: Conditioning) -> Prediction:
        rows_of_calls.append(len(latents))
        return eager(latents, timestep, text)

    source = own(counted, ("mid.0",), 3, components, STEPS, 3.0)
    _, output = run(replace(mixed, sources={"own-1": source}), slice(0, 2), probed)
    rows = [cost.rows for cost in output.costs if cost.network == 1]
    assert len(rows) == len(probed)
    assert sum(rows) == sum(rows_of_calls) == 2 * source.rows_of(probed)
