"""The experiment: paint every training picture once, solve all probes, paint every test picture once, score."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from bench.comparisons import subject_of
from bench.config import Config
from bench.folder import RunFolder, default_out, open_folder
from bench.learning import LEARNING, learning_rows, write_learning
from bench.measure import give_back_memory
from bench.ranks import Ranks, sharing_cores
from bench.recording import write_results
from bench.results import FOREGROUND_AREA
from bench.sessions import MADE, Session, Taken
from bench.strips import strip_steps, strip_tensors
from bench.study import Study, open_study
from datasets.labels import Labels
from datasets.splits import Block
from extract.names import DECODED, DECODED_LAYERS, TRAINED
from extract.shards import Shards
from extract.stream import Painted, Reducer, Subject, stream
from probes.bank import Bank, solve_bank, with_readings
from probes.gather import Gather, Sums, Total, sums_of_tensors
from probes.readout import Readout, best_thresholds

ALONE = Ranks()


def run(config: Config, ranks: Ranks = ALONE) -> RunFolder:
    """Run the experiment, or go on with it, and give its folder. Finished shards are never painted again.

    Of several ranks each makes its shards, all solve, and the first writes. Raises IncompleteError when shards are
    missing that others have to make.
    """
    study = sharing_cores(open_study(config), ranks)
    with ranks.leader_first():
        folder = open_folder(Path(config.out) if config.out else default_out(study), study)
    if folder.finished:
        if ranks.leads:
            # It may have been killed as it swept up.
            _sweep(folder, study)
        return folder
    with (
        ranks.keep(folder),
        tqdm(total=study.items, unit="item", desc="painting", smoothing=0.05, disable=not ranks.shows) as progress,
    ):
        job = _Job(study, ranks, Shards(folder.path / "shards", study.fingerprint), progress)
        job.gather()
        # The last fold is painted when the others are solved: their draft probes read its pictures as they stream by,
        # and the thresholds come from training pictures that those probes were not fit to.
        draft = job.solve(job.sums(range(study.folds - 1)), [n for n, task in study.tasks.items() if task.thresholded])
        job.calibrate(draft)
        folds = job.sums(range(study.folds))
        bank = job.solve(folds, list(study.tasks))
        bank = replace(bank, thresholds=best_thresholds(draft, job.swept(draft)))
        if ranks.leads:
            write_learning(folder.path / LEARNING, learning_rows(study, bank, folds))
        # The sums have done their work, and they are much of the memory.
        del folds
        give_back_memory()
        if DECODED in config.compare:
            bank = with_readings(bank, DECODED, DECODED_LAYERS, config.probed_steps)
        job.score(bank)
        job.networks.close()
        give_back_memory()
        if not ranks.leads:
            return folder
        scores, strips = job.scores()
        costs, taken = job.taken()
        write_results(folder, study, job.watched, bank, scores, costs, strips, taken, ranks.world)
        _sweep(folder, study)
    return folder


def _sweep(folder: RunFolder, study: Study) -> None:
    """Remove what a finished run no longer needs."""
    Shards(folder.path / "shards", study.fingerprint).remove()
    folder.tidy()


@dataclass
class _Job:
    """One run in progress. What is painted goes to disk at once, so that memory does not grow with the items."""

    study: Study
    ranks: Ranks
    shards: Shards
    progress: tqdm[None]
    session: Session = field(default_factory=Session)

    def __post_init__(self) -> None:
        self.watched, self.networks = subject_of(self.study)

    @cached_property
    def subject(self) -> Subject:
        """What is watched, the engines opened: when the first block has to be painted, and no sooner."""
        torch.set_num_threads(self.study.threads)
        self.networks.open()
        return self.watched

    def gather(self) -> None:
        """Paint the training pictures of all folds but the last and store their sums."""

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            total, costs = Total(), []
            for block in blocks:
                gather = Gather(self.study.tasks, block.permutations(self.study.draws))
                costs.append(self.paint(block, [gather], fitted=True)[0].cost_table())
                total.add(gather.sums())
            return total.sums.tensors() | {"costs": torch.cat(costs)}

        self.make("the training pictures", [self.fold(fold) for fold in range(self.study.folds - 1)], make)

    def calibrate(self, draft: Bank) -> None:
        """Paint the last fold; store its sums, and the draft probes' Dice on it at every candidate threshold."""
        tasks = {name: self.study.tasks[name] for name in draft.probes}

        def make(blocks: Sequence[Block]) -> dict[str, Tensor]:
            total, costs, sweeps = Total(), [], []
            for block in blocks:
                permutations = block.permutations(self.study.draws)
                gather, readout = Gather(self.study.tasks, permutations), Readout(draft, tasks)
                costs.append(self.paint(block, [gather, readout], fitted=True)[0].cost_table())
                sweeps.append(readout.sweep(permutations))
                total.add(gather.sums())
            tables = {f"{_SWEEP}{name}": torch.stack([sweep[name] for sweep in sweeps]).sum(0) for name in tasks}
            return total.sums.tensors() | tables | {"costs": torch.cat(costs)}

        self.make("the last fold", [self.fold(self.study.folds - 1)], make)

    def score(self, bank: Bank) -> None:
        """Paint the test pictures; store every metric of every cell for each, and the report's strips.

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

        self.make("the test pictures", [study.test], make)

    def sums(self, folds: Sequence[int]) -> list[Sums]:
        """The sums of the folds, from disk."""
        give_back_memory()
        totals = []
        for fold in folds:
            total = Total()
            for name in self.names(self.fold(fold)):
                total.add(sums_of_tensors(self.shards.read(name)))
            totals.append(total.sums)
        return totals

    def solve(self, folds: Sequence[Sums], tasks: Sequence[str]) -> Bank:
        """All probes of the tasks; the trained network also gets those of permuted labels."""
        return solve_bank(folds, tasks, self.study.config.probed_steps, {TRAINED}, self.study.threads)

    def swept(self, draft: Bank) -> dict[str, Tensor]:
        """The draft probes' Dice at every candidate threshold, added up over the last fold."""
        pieces = [self.shards.read(name) for name in self.names(self.fold(self.study.folds - 1))]
        return {name: torch.stack([piece[f"{_SWEEP}{name}"] for piece in pieces]).sum(0) for name in draft.probes}

    def scores(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Per task, every metric of every cell for every test picture (cells x metrics x pictures), and the strips."""
        scores: dict[str, Tensor] = {}
        strips: dict[str, Tensor] = {}
        areas: list[Tensor] = []
        done, pictures = 0, sum(len(block.items) for block in self.study.test)
        for name in self.names(self.study.test):
            piece = self.shards.read(name)
            areas.append(piece[FOREGROUND_AREA])
            strips |= {key: value for key, value in piece.items() if key.startswith("strip/")}
            for task in self.study.tasks:
                part = piece[f"scores/{task}"]
                table = scores.setdefault(task, torch.empty(*part.shape[:2], pictures, dtype=part.dtype))
                table[..., done : done + part.shape[-1]] = part
            done += part.shape[-1]
        return scores | {FOREGROUND_AREA: torch.cat(areas)}, strips

    def taken(self) -> tuple[list[Tensor], Taken]:
        """What every shard's calls took, in the order of work, and what the run took in all."""
        stages = [*(self.fold(fold) for fold in range(self.study.folds)), self.study.test]
        found = []
        for name in (name for blocks in stages for name in self.names(blocks)):
            # Of the sums beside them, one shard's are in memory at a time.
            shard = self.shards.read(name)
            found.append({part: shard[part] for part in ("costs", MADE)})
        return [shard["costs"] for shard in found], self.session.taken(found)

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
        """Make this rank's shards of a stage, as far as they are not there whole, and see that all others are."""
        groups = [group for blocks in stretches for group in grouped(blocks, self.study.config.shard)]
        for index, group in enumerate(groups):
            if self.ranks.mine(index) and not self.is_whole(_name(group)):
                started = time.perf_counter()
                made = make(group)
                self.shards.write(_name(group), made | self.session.stamp(time.perf_counter() - started))
            else:
                self.progress.update(sum(len(block.items) for block in group))
        self.ranks.barrier()
        missing = [_name(group) for group in groups if not self.shards.done(_name(group))]
        if missing:
            self.ranks.missing(stage, missing, len(groups))

    def is_whole(self, name: str) -> bool:
        """Whether a shard is there and undamaged; the user hears of one that has to be made again."""
        if not self.shards.done(name):
            return False
        damage = self.shards.damage(name)
        if damage:
            self.progress.write(f"bench: {damage}", file=sys.stderr)
        return damage is None

    def paint(
        self, block: Block, reducers: Sequence[Reducer], noisy: Sequence[int] = (), fitted: bool = False
    ) -> tuple[Painted, Labels]:
        """Stream one block through the reducers; ``fitted`` leaves out what no probe is fit to."""
        given, read = self.study.given(block.items)
        subject = self.subject.fitted if fitted else self.subject
        painted, labels = stream(subject, given, reducers, self.study.config.probed_steps, read, noisy)
        self.progress.update(len(block.items))
        return painted, labels


_SWEEP = "sweep/"


def _name(group: Sequence[Block]) -> str:
    first = group[0]
    stage = f"fold-{first.fold}" if first.split == "train" else first.split
    return f"{stage}-{first.index:04d}-{group[-1].index:04d}"


def grouped(blocks: Sequence[Block], items: int) -> list[list[Block]]:
    """Consecutive blocks, so many together that a group has at least ``items`` items or none are left."""
    groups: list[list[Block]] = [[]]
    for block in blocks:
        if sum(len(member.items) for member in groups[-1]) >= items:
            groups.append([])
        groups[-1].append(block)
    return groups
