"""The stages of a run: sum over training pictures, solve, choose thresholds, score test pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from bench.measure import give_back_memory
from bench.networks import subject_of
from bench.runs.checkpoints import COSTS, Maker, Work
from bench.runs.filmstrips import strip_steps, strip_tensors
from bench.runs.results import FOREGROUND_AREA
from bench.study import Study
from datasets.labels import Labels
from datasets.splits import Block, count_items, grouped
from extract.networks import TRAINED
from extract.stream import Painted, Reducer, Subject
from probes.accumulate import Gather, Place, Sums, Total, in_places, sums_of_tensors
from probes.probe_set import Bank, probes_of, tensors_of, united
from probes.readout import Readout
from probes.solve import mean_maps, position_places, solve_places, solve_position

_SWEEP = "sweep/"


@dataclass
class Job:
    """One run in progress."""

    study: Study
    maker: Maker

    def __post_init__(self) -> None:
        self.watched, self.networks = subject_of(self.study)

    @cached_property
    def subject(self) -> Subject:
        """What is watched, the engines opened: when the first block has to be painted, and no sooner."""
        torch.set_num_threads(self.study.threads)
        self.networks.open()
        self.networks.let_weights_go()
        return self.watched

    def gather(self) -> None:
        """Paint the training pictures of all folds but the last and store their sums."""

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            total, costs = Total(), []
            for block in blocks:
                gather = Gather(self.study.tasks, block.permutations(self.study.draws), self.study.device)
                costs.append(self.paint(block, [gather], fitted=True)[0].cost_table())
                total.add(gather.sums())
            return total.sums.tensors() | {COSTS: torch.cat(costs)}

        self.make("the training pictures", [self.fold(fold) for fold in range(self.study.folds - 1)], make)

    def calibrate(self, draft: Bank) -> None:
        """Paint the last fold; store its sums, and the draft probes' Dice on it at every candidate threshold."""
        tasks = {name: self.study.tasks[name] for name in draft.probes}

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            total, costs, sweeps = Total(), [], []
            for block in blocks:
                permutations = block.permutations(self.study.draws)
                gather = Gather(self.study.tasks, permutations, self.study.device)
                readout = Readout(draft, tasks, self.study.device)
                costs.append(self.paint(block, [gather, readout], fitted=True)[0].cost_table())
                sweeps.append(readout.sweep(permutations))
                total.add(gather.sums())
            tables = {f"{_SWEEP}{name}": torch.stack([sweep[name] for sweep in sweeps]).sum(0) for name in tasks}
            return total.sums.tensors() | tables | {COSTS: torch.cat(costs)}

        self.make("the last fold", [self.fold(self.study.folds - 1)], make)

    def score(self, bank: Bank) -> None:
        """Paint the test pictures; store every metric of every cell for each, and the report's strips.

        Among the scores lies the share of every test picture that the salient object covers.
        """
        study = self.study

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            costs, tables, areas, strips = [], [], [], {}
            for block in blocks:
                readout = Readout(bank, study.tasks, study.device)
                painted, labels = self.paint(block, [readout], strip_steps(study) if block.index == 0 else ())
                costs.append(painted.cost_table())
                tables.append(readout.scores())
                areas.append(readout.foreground)
                if block.index == 0:
                    strips = strip_tensors(study, bank, readout, painted, labels)
            scores = {f"scores/{name}": torch.cat([table[name] for table in tables], dim=-1) for name in study.tasks}
            return scores | strips | {FOREGROUND_AREA: torch.cat(areas), COSTS: torch.cat(costs)}

        self.make("the test pictures", [study.test], make)

    def solve(self, stage: str, folds: int, tasks: Sequence[str]) -> Bank:
        """All probes of the tasks from the first folds; the trained network also gets those of permuted labels.

        They are solved place by place: while they are, the sums of one place are in memory, however many there are.
        """
        if not tasks:
            return Bank({}, {})
        study = self.study
        bare = self.sums(folds, ())

        def at(place: Place) -> dict[str, Tensor]:
            steps, sums = study.config.probed_steps, self.sums(folds, [place])
            return tensors_of(solve_places(sums, tasks, steps, {TRAINED}, study.threads, device=study.device))

        def of_position(place: Place) -> dict[str, Tensor]:
            return tensors_of(solve_position(self.sums(folds, [place]), tasks, {TRAINED}, study.device))

        give_back_memory()
        makes = [partial(at, place) for place in bare[0].shapes]
        if not all(bare[0].is_of_pictures(name) for name in tasks):
            makes += [partial(of_position, place) for place in position_places(bare[0], {TRAINED})]
        works = [Work(f"{stage}-{number:04d}", make) for number, make in enumerate(makes)]
        solved = self.maker.shared(f"the {stage} probes", works)
        return Bank(united((probes_of(part, tasks) for part in solved), tasks), mean_maps(bare, tasks))

    def sums(self, folds: int, places: Sequence[Place]) -> list[Sums]:
        """The sums of the first folds, from disk; their moments only at some places."""
        totals = []
        for fold in range(folds):
            total = Total()
            for name in self.names(self.fold(fold)):
                total.add(sums_of_tensors(self.maker.shards.read(name, in_places(places))))
            totals.append(total.sums)
        return totals

    def swept(self, draft: Bank) -> dict[str, Tensor]:
        """The draft probes' Dice at every candidate threshold, added up over the last fold."""
        names = self.names(self.fold(self.study.folds - 1))
        pieces = [self.maker.shards.read(name, lambda key: key.startswith(_SWEEP)) for name in names]
        return {name: torch.stack([piece[f"{_SWEEP}{name}"] for piece in pieces]).sum(0) for name in draft.probes}

    def scores(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Per task, every metric of every cell for every test picture (cells x metrics x pictures), and the strips."""
        scores: dict[str, Tensor] = {}
        strips: dict[str, Tensor] = {}
        areas: list[Tensor] = []
        done, pictures = 0, count_items(self.study.test)
        for name in self.names(self.study.test):
            piece = self.maker.shards.read(name)
            areas.append(piece[FOREGROUND_AREA])
            strips |= {key: value for key, value in piece.items() if key.startswith("strip/")}
            for task in self.study.tasks:
                part = piece[f"scores/{task}"]
                table = scores.setdefault(task, torch.empty(*part.shape[:2], pictures, dtype=part.dtype))
                table[..., done : done + part.shape[-1]] = part
            done += part.shape[-1]
        return scores | {FOREGROUND_AREA: torch.cat(areas)}, strips

    def fold(self, fold: int) -> list[Block]:
        """The training blocks of a fold."""
        return [block for block in self.study.train if block.fold == fold]

    def names(self, blocks: Sequence[Block]) -> list[str]:
        """The shards that blocks of one stage are stored in."""
        return [_name(group) for group in grouped(blocks, self.study.config.shard)]

    def make(
        self,
        stage: str,
        stretches: Sequence[Sequence[Block]],
        make: Callable[[Sequence[Block]], dict[str, Tensor]],
    ) -> None:
        """Make the shards of a stage: every stretch of blocks is cut into groups, and each is a shard."""
        groups = [group for blocks in stretches for group in grouped(blocks, self.study.config.shard)]
        self.maker.make(stage, [Work(_name(group), partial(make, group), count_items(group)) for group in groups])

    def paint(
        self, block: Block, reducers: Sequence[Reducer], noisy: Sequence[int] = (), fitted: bool = False
    ) -> tuple[Painted, Labels]:
        """Stream one block through the reducers; ``fitted`` leaves out what no probe is fit to."""
        subject = self.subject.fitted if fitted else self.subject
        painted, labels = self.study.stream(subject, block.items, reducers, self.study.config.probed_steps, noisy)
        self.maker.progress.update(len(block.items))
        return painted, labels


def _name(group: Sequence[Block]) -> str:
    first = group[0]
    stage = f"fold-{first.fold}" if first.split == "train" else first.split
    return f"{stage}-{first.index:04d}-{group[-1].index:04d}"
