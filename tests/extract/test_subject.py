"""What a subject watches: what is timed, what is fit to, and that no watcher remembers another block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from datasets.labels import Labels
from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.engine import Prediction
from extract.sources import ActivationSource, Start, Watch, own
from extract.stream import BlockInput, BlockOutput, RecordedModel, stream

STEPS = 3
PROMPTS = ["a red sphere", "a blue box", "a green cone"]


class Recorder:
    def __init__(self) -> None:
        self.seen: dict[tuple[int, str, str], Tensor] = {}

    def update(self, step: int, network: str, layer: str, activation: Tensor) -> None:
        self.seen[step, network, layer] = activation.clone()

    def finish(self, labels: Labels) -> None: ...


def run(
    recorded: RecordedModel, items: slice, probed: Sequence[int] = range(STEPS)
) -> tuple[Recorder, BlockOutput]:
    recorder = Recorder()
    given = BlockInput(PROMPTS[items], [1, 2, 3][items])
    generated, _ = stream(
        recorded, given, [recorder], probed, lambda p: Labels(p.mean(1), p[:, 0] > 0.5)
    )
    return recorder, generated


def plain(value: float, rows: int = 0, fitted: bool = True) -> ActivationSource:
    return ActivationSource(
        lambda _: lambda step: {"only": torch.full((len(step.text), 4, 2), value)}, rows, fitted
    )


@pytest.fixture
def mixed(components: Components, eager: TorchEager) -> RecordedModel:
    """Watchers that compute something and watchers that do not, one of them not fit to, in no order."""
    watchers = {
        "free": plain(1),
        "unfit": plain(2, 3, False),
        "last": plain(3, 2),
        "other": plain(4, 1),
    }
    return RecordedModel(components, eager, watchers, STEPS, 3.0, 16)


def test_rows_of_the_table_of_costs_name_their_network(mixed: RecordedModel) -> None:
    assert mixed.timed == ("trained", "unfit", "last", "other")
    for recorded in (mixed, mixed.fitted):
        _, generated = run(recorded, slice(0, 2), probed=(1,))
        table = [tuple(row) for row in generated.cost_table()[:, :3].int().tolist()]
        named = [(step, recorded.timed[network], rows) for step, network, rows in table]
        beside = [("unfit", 6), ("last", 4), ("other", 2)][0 if recorded is mixed else 1 :]
        trained = [(step, "trained", 4) for step in range(STEPS)]
        assert named == [*trained[:2], *((1, *entry) for entry in beside), *trained[2:]]


def test_what_no_probe_is_fit_to_is_not_watched_in_training(mixed: RecordedModel) -> None:
    every, fitted = run(mixed, slice(0, 1))[0], run(mixed.fitted, slice(0, 1))[0]
    assert {network for _, network, _ in every.seen} == {"free", "unfit", "last", "other"}
    assert {network for _, network, _ in fitted.seen} == {"free", "last", "other"}
    for site, activation in fitted.seen.items():
        assert torch.equal(activation, every.seen[site])


def test_a_watcher_begins_anew_for_every_block(mixed: RecordedModel) -> None:
    begun: list[tuple[int, ...]] = []

    def begin(start: Start) -> Watch:
        begun.append(tuple(start.noise.shape))
        return lambda _: {}

    recorded = replace(mixed, sources={"counted": ActivationSource(begin)})
    for items in (slice(0, 1), slice(1, 3)):
        run(recorded, items)
    assert begun == [(n, *mixed.components.latent_shape) for n in (1, 2)]


@pytest.mark.parametrize("probed", [(0, 2), (1,), (0, 1, 2)])
def test_costs_of_a_network_on_its_own_trajectory_count_the_steps_nobody_looked_at(
    mixed: RecordedModel, components: Components, eager: TorchEager, probed: tuple[int, ...]
) -> None:
    ran: list[int] = []

    def counted(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        ran.append(len(latents))
        return eager(latents, timestep, text)

    watcher = own(counted, ("mid.0",), 3, components, STEPS, 3.0)
    _, generated = run(replace(mixed, sources={"own-1": watcher}), slice(0, 2), probed)
    mine = [cost.rows for cost in generated.costs if cost.network == 1]
    assert len(mine) == len(probed)
    assert sum(mine) == sum(ran) == 2 * watcher.rows_of(probed)
