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
from extract.sources import Start, Watch, Watcher, own
from extract.stream import Given, Painted, Subject, stream

STEPS = 3
PROMPTS = ["a red sphere", "a blue box", "a green cone"]


class Recorder:
    def __init__(self) -> None:
        self.seen: dict[tuple[int, str, str], Tensor] = {}

    def see(self, step: int, network: str, layer: str, activation: Tensor) -> None:
        self.seen[step, network, layer] = activation.clone()

    def finish(self, labels: Labels) -> None: ...


def run(subject: Subject, items: slice, probed: Sequence[int] = range(STEPS)) -> tuple[Recorder, Painted]:
    recorder = Recorder()
    given = Given(PROMPTS[items], [1, 2, 3][items])
    painted, _ = stream(subject, given, [recorder], probed, lambda p: Labels(p.mean(1), p[:, 0] > 0.5))
    return recorder, painted


def plain(value: float, rows: int = 0, fitted: bool = True) -> Watcher:
    return Watcher(lambda _: lambda step: {"only": torch.full((len(step.text), 4, 2), value)}, rows, fitted)


@pytest.fixture
def mixed(components: Components, eager: TorchEager) -> Subject:
    """Watchers that compute something and watchers that do not, one of them not fit to, in no order."""
    watchers = {"free": plain(1), "unfit": plain(2, 3, False), "last": plain(3, 2), "other": plain(4, 1)}
    return Subject(components, eager, watchers, STEPS, 3.0, 16)


def test_rows_of_the_table_of_costs_name_their_network(mixed: Subject) -> None:
    assert mixed.timed == ("trained", "unfit", "last", "other")
    for subject in (mixed, mixed.fitted):
        _, painted = run(subject, slice(0, 2), probed=(1,))
        table = [tuple(row) for row in painted.cost_table()[:, :3].int().tolist()]
        named = [(step, subject.timed[network], rows) for step, network, rows in table]
        beside = [("unfit", 6), ("last", 4), ("other", 2)][0 if subject is mixed else 1 :]
        trained = [(step, "trained", 4) for step in range(STEPS)]
        assert named == [*trained[:2], *((1, *entry) for entry in beside), *trained[2:]]


def test_what_no_probe_is_fit_to_is_not_watched_in_training(mixed: Subject) -> None:
    every, fitted = run(mixed, slice(0, 1))[0], run(mixed.fitted, slice(0, 1))[0]
    assert {network for _, network, _ in every.seen} == {"free", "unfit", "last", "other"}
    assert {network for _, network, _ in fitted.seen} == {"free", "last", "other"}
    for place, activation in fitted.seen.items():
        assert torch.equal(activation, every.seen[place])


def test_a_watcher_begins_anew_for_every_block(mixed: Subject) -> None:
    begun: list[tuple[int, ...]] = []

    def begin(start: Start) -> Watch:
        begun.append(tuple(start.noise.shape))
        return lambda _: {}

    subject = replace(mixed, watchers={"counted": Watcher(begin)})
    for items in (slice(0, 1), slice(1, 3)):
        run(subject, items)
    assert begun == [(n, *mixed.components.latent_shape) for n in (1, 2)]


@pytest.mark.parametrize("probed", [(0, 2), (1,), (0, 1, 2)])
def test_costs_of_a_network_on_its_own_trajectory_count_the_steps_nobody_looked_at(
    mixed: Subject, components: Components, eager: TorchEager, probed: tuple[int, ...]
) -> None:
    ran: list[int] = []

    def counted(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        ran.append(len(latents))
        return eager(latents, timestep, text)

    watcher = own(counted, ("mid.0",), 3, components, STEPS, 3.0)
    _, painted = run(replace(mixed, watchers={"own-1": watcher}), slice(0, 2), probed)
    mine = [cost.rows for cost in painted.costs if cost.network == 1]
    assert len(mine) == len(probed)
    assert sum(mine) == sum(ran) == 2 * watcher.rows_of(probed)
