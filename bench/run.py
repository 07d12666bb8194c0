"""The experiment: paint every training picture once, solve all probes, paint every test picture once, score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.config import Config
from bench.folder import RunFolder, default_out, open_folder
from bench.learning import LEARNING, learning_rows, write_learning
from bench.results import FOREGROUND_AREA, write_results
from bench.strips import strip_steps, strip_tensors
from bench.study import Study, open_study
from datasets.labels import Labels
from datasets.splits import FOLDS, Block
from extract.shards import Shards
from extract.stream import TRAINED, Painted, Reducer, Subject, stream
from probes.bank import Bank, solve_bank
from probes.gather import DRAWS, Gather, Sums, sums_of_tensors, total_sums
from probes.readout import Readout, best_thresholds


def run(config: Config) -> RunFolder:
    """Run the experiment, or go on with it, and give its folder. Finished shards are never painted again."""
    study = open_study(config)
    folder = open_folder(Path(config.out) if config.out else default_out(study), study)
    if folder.finished:
        return folder
    with (
        folder.locked(),
        tqdm(total=study.items, unit="item", desc="painting", smoothing=0.05) as progress,
    ):
        started = time.perf_counter()
        job = _Job(study, Shards(folder.path / "shards", study.fingerprint), progress)
        first = [job.gather(fold) for fold in range(FOLDS - 1)]
        # The last fold is painted when the others are solved: their draft probes read its pictures as they stream by,
        # and the thresholds come from training pictures that those probes were not fit to.
        draft = job.solve(first, [name for name, task in study.tasks.items() if task.thresholded])
        last, swept = job.calibrate(draft)
        bank = job.solve([*first, last], list(study.tasks))
        bank = replace(bank, thresholds=best_thresholds(draft, swept))
        write_learning(folder.path / LEARNING, learning_rows(study, bank, [*first, last]))
        scores, strips = job.score(bank)
        write_results(folder, study, bank, scores, job.costs, strips, time.perf_counter() - started)
        job.shards.remove()
    return folder


@dataclass
class _Job:
    """One run in progress."""

    study: Study
    shards: Shards
    progress: tqdm[None]

    def __post_init__(self) -> None:
        self.costs: list[Tensor] = []

    @cached_property
    def subject(self) -> Subject:
        """The engines, opened when the first block has to be painted."""
        return self.study.subject()

    def gather(self, fold: int) -> Sums:
        """The sums over the training pictures of one fold."""

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            costs: list[Tensor] = []

            def sums() -> Iterator[Sums]:
                for block in blocks:
                    gather = Gather(self.study.tasks, block.permutations(DRAWS))
                    costs.append(self.paint(block, [gather])[0].cost_table())
                    yield gather.sums()

            return total_sums(sums()).tensors() | {"costs": torch.cat(costs)}

        return total_sums(sums_of_tensors(tensors) for tensors in self.pieces(f"fold-{fold}", self.fold(fold), make))

    def calibrate(self, draft: Bank) -> tuple[Sums, dict[str, Tensor]]:
        """The sums of the last fold, and the draft probes' Dice on it at every candidate threshold."""
        tasks = {name: self.study.tasks[name] for name in draft.probes}

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            costs, sweeps = [], []

            def sums() -> Iterator[Sums]:
                for block in blocks:
                    permutations = block.permutations(DRAWS)
                    gather, readout = Gather(self.study.tasks, permutations), Readout(draft, tasks)
                    costs.append(self.paint(block, [gather, readout])[0].cost_table())
                    sweeps.append(readout.sweep(permutations))
                    yield gather.sums()

            total = total_sums(sums()).tensors()
            tables = {f"sweep/{name}": torch.stack([sweep[name] for sweep in sweeps]).sum(0) for name in tasks}
            return total | tables | {"costs": torch.cat(costs)}

        swept: dict[str, Tensor] = {}

        def sums_and_sweeps() -> Iterator[Sums]:
            for piece in self.pieces(f"fold-{FOLDS - 1}", self.fold(FOLDS - 1), make):
                for name in tasks:
                    table = piece.pop(f"sweep/{name}")
                    swept[name] = swept[name] + table if name in swept else table
                yield sums_of_tensors(piece)

        return total_sums(sums_and_sweeps()), swept

    def solve(self, folds: Sequence[Sums], tasks: Sequence[str]) -> Bank:
        """All probes of the tasks; the trained network also gets those of permuted labels."""
        return solve_bank(folds, tasks, self.study.config.probed_steps, {TRAINED}, self.study.threads)

    def score(self, bank: Bank) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Every metric of every cell for every test picture (cells x metrics x pictures), and the report's strips.

        Among the scores lies the share of every test picture that the salient object covers.
        """
        study = self.study

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            costs, tables, areas, strips = [], [], [], {}
            for block in blocks:
                readout = Readout(bank, study.tasks)
                painted, labels = self.paint(block, [readout], strip_steps(study) if block.index == 0 else ())
                costs.append(painted.cost_table())
                tables.append(readout.scores())
                areas.append(readout.foreground)
                if block.index == 0:
                    strips = strip_tensors(study, bank, readout, painted, labels)
            scores = {f"scores/{name}": torch.cat([table[name] for table in tables], dim=-1) for name in study.tasks}
            return scores | strips | {FOREGROUND_AREA: torch.cat(areas), "costs": torch.cat(costs)}

        scores: dict[str, Tensor] = {}
        strips: dict[str, Tensor] = {}
        areas: list[Tensor] = []
        done, pictures = 0, sum(len(block.items) for block in study.test)
        for piece in self.pieces("test", study.test, make):
            areas.append(piece[FOREGROUND_AREA])
            strips |= {name: piece[name] for name in piece if name.startswith("strip/")}
            for name in study.tasks:
                part = piece[f"scores/{name}"]
                # One table per task, filled as the shards come: memory should not grow with their number.
                table = scores.setdefault(name, torch.empty(*part.shape[:2], pictures, dtype=part.dtype))
                table[..., done : done + part.shape[-1]] = part
            done += part.shape[-1]
        return scores | {FOREGROUND_AREA: torch.cat(areas)}, strips

    def fold(self, fold: int) -> list[Block]:
        """The training blocks of a fold."""
        return [block for block in self.study.train if block.fold == fold]

    def pieces(
        self, stage: str, blocks: Sequence[Block], make: Callable[[Sequence[Block]], dict[str, Tensor]]
    ) -> Iterator[dict[str, Tensor]]:
        """The stage's shards in order, each from disk or made now."""
        for group in grouped(blocks, self.study.config.shard):
            name = f"{stage}-{group[0].index:04d}-{group[-1].index:04d}"
            if self.shards.done(name):
                self.progress.update(sum(len(block.items) for block in group))
            piece = self.shards.get(name, partial(make, group))
            self.costs.append(piece.pop("costs"))
            yield piece

    def paint(self, block: Block, reducers: Sequence[Reducer], noisy: Sequence[int] = ()) -> tuple[Painted, Labels]:
        """Stream one block through the reducers."""
        given, read = self.study.given(block.items)
        painted, labels = stream(self.subject, given, reducers, self.study.config.probed_steps, read, noisy)
        self.progress.update(len(block.items))
        return painted, labels


def grouped(blocks: Sequence[Block], items: int) -> list[list[Block]]:
    """Consecutive blocks, so many together that a group has at least ``items`` items or none are left."""
    groups: list[list[Block]] = [[]]
    for block in blocks:
        if sum(len(member.items) for member in groups[-1]) >= items:
            groups.append([])
        groups[-1].append(block)
    return groups
