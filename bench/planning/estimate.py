"""What a run will take, before it runs: counted where it can be counted, else measured on a few blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from bench.config import Config
from bench.measure import peak_during, resident_bytes, timed
from bench.networks import Networks, recorded_model
from bench.planning.solving import bytes_of, cut, sampled_bank
from bench.profiling.flops import decoding_flops, work_of
from bench.runs.filmstrips import STRIP_ITEMS, strip_steps
from bench.runs.learning_curves import curves_of, learning_rows
from bench.stages import score_block, sum_block, sweep_block
from bench.study import Study, open_study
from datasets.splits import FOLDS, Block, count_items, draws_of, grouped
from extract.networks import DECODED, DECODED_LAYERS
from extract.shards import Shards
from extract.stream import RecordedModel
from probes.accumulate import SufficientStatistics, sums_of_tensors
from probes.bootstrap import intervals
from probes.probe_set import ProbeSet, with_readings
from probes.readout import best_thresholds

T = TypeVar("T")

_READS = 2
"""Times that a run reads every shard of sums: for the draft or its thresholds, and for the probes."""
_SUMS_HELD = FOLDS + 1
"""SufficientStatistics of a place in memory while its probes are solved: those of the folds, and their total."""
_CELLS = 256
"""Cells whose intervals are timed."""
_NOT_UNET = ("vae", DECODED)
_FLOAT64_BYTES = 8


@dataclass(frozen=True, slots=True)
class Term:
    """One part of a run's time: so many times the seconds of one."""

    what: str
    count: float
    unit: str
    each_seconds: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.count * self.each_seconds


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run will need of this machine."""

    memory_bytes: int
    """At the peak."""
    disk_bytes: int
    """Before the shards are deleted."""
    terms: tuple[Term, ...]

    @property
    def seconds(self) -> float:
        """From the command to the results, Python's own start left out."""
        return sum(term.seconds for term in self.terms)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take."""

    train_items: int
    test_items: int
    image_steps: int
    engine_rows: int
    """Rows that UNets compute, of the generating network and of those beside it."""
    flops_per_row: int
    decodings: int
    """Latents that are decoded for labels and for comparisons: without the report's few, and without rendered images,
    which are encoded."""
    flops_per_decoding: int
    measured: Measured | None
    """What this machine needs for it, unless nothing was generated to find out."""

    @property
    def flops(self) -> int:
        """Operations of all UNets."""
        return self.engine_rows * self.flops_per_row

    @property
    def decoding_flops(self) -> int:
        """Operations of the decoder."""
        return self.decodings * self.flops_per_decoding


def plan_of(config: Config, items: int | None = None) -> Plan:
    """Count and measure; at most ``items`` items (at least 2) of a block are generated for each stage, or none at 0."""
    study, loading = timed(lambda: open_study(config))
    torch.set_num_threads(study.threads)
    recorded, networks = recorded_model(study)
    measured = None if items == 0 else _measured(_Sample(study, recorded, networks, items), loading)
    train, test = (count_items(blocks) for blocks in (study.train, study.test))
    words = study.components.embed([""]).shape[1]
    return Plan(
        train_items=train,
        test_items=test,
        image_steps=(train + test) * config.sampler_steps,
        engine_rows=_rows(study, recorded.fitted, train) + _rows(study, recorded, test),
        flops_per_row=work_of(study.components.unet, study.taps, words)[0].flops_per_row,
        decodings=_decodings(study, train, test),
        flops_per_decoding=decoding_flops(study.components.vae, study.components.latent_shape),
        measured=measured,
    )


def _measured(sample: _Sample, loading: float) -> Measured:
    _, opening = timed(sample.networks.open)
    sample.networks.release_weights()
    terms = [
        Term("loading the model and opening engines", 1, "run", loading + opening),
        *sample.terms(),
    ]
    return Measured(sample.memory, sample.disk, tuple(terms))


def _rows(study: Study, recorded: RecordedModel, items: int) -> int:
    generating = study.config.sampler_steps * (2 if study.config.source == "generated" else 1)
    watched = (watcher for name, watcher in recorded.watchers.items() if name not in _NOT_UNET)
    return items * (
        generating + sum(watcher.rows_of(study.config.probed_steps) for watcher in watched)
    )


def _decodings(study: Study, train: int, test: int) -> int:
    compared, steps = study.config.baselines, len(study.config.probed_steps)
    found = train + test if study.config.source == "generated" else 0
    if "vae" in compared:
        found += (train + test) * steps
    return found + (2 * test * steps if DECODED in compared else 0)


@dataclass
class _Sample:
    """A run in small: a block or two for every stage."""

    study: Study
    recorded: RecordedModel
    networks: Networks
    items: int | None
    memory: int = 0
    disk: int = 0
    _peaks: list[int] = field(default_factory=list)

    def terms(self) -> list[Term]:
        """Measure every stage; ``memory`` and ``disk`` are known after it."""
        study, config = self.study, self.study.config
        steps = config.probed_steps
        opened = resident_bytes()
        folds = [block for block in study.train if block.fold < study.folds - 1]
        last = [block for block in study.train if block.fold == study.folds - 1]
        # The first block warms engines and allocators up.
        first = self._gathered(folds[0])
        second = self._gathered(folds[-1])
        parts = [(first, second)[fold % 2][0] for fold in range(study.folds)]
        thresholded = [name for name, task in study.tasks.items() if task.thresholded]
        draft, drafting = sampled_bank(parts[:-1], thresholded, study)
        swept, sweeping = self._calibrated(last[0], draft)
        probe_set, solving = sampled_bank(parts, list(study.tasks), study)
        probe_set = replace(probe_set, thresholds=best_thresholds(draft, swept))
        curves = len(list(curves_of(study)))
        _, learning = timed(
            lambda: list(
                islice(
                    learning_rows(study, probe_set, lambda site: cut(parts, {site})),
                    study.folds - 1,
                )
            )
        )
        if DECODED in config.baselines:
            probe_set = with_readings(probe_set, DECODED, DECODED_LAYERS, steps)
        scoring = self._scored(study.test[-1], probe_set)
        shards = sum(
            len(grouped([b for b in study.train if b.fold == fold], config.shard))
            for fold in range(study.folds)
        )
        stored, size = _stored(second[0])
        per_image = sum(
            len(probe_set.cells(name)) * len(task.metrics) for name, task in study.tasks.items()
        )
        images = count_items(study.test)
        # In shards, and again in the results.
        twice = per_image * images * _FLOAT64_BYTES + _strip_bytes(study) + _weight_bytes(probe_set)
        self.disk = shards * size + _weight_bytes(draft) + 2 * twice
        held = bytes_of(second[0])
        at_a_place = max(bytes_of(second[0], site) for site in second[0].shapes)
        self.memory = max(
            max(self._peaks, default=resident_bytes()) + held, opened + _SUMS_HELD * at_a_place
        )
        return [
            Term("warming up", 1, "run", max(0.0, first[1] - second[1]) * len(self._cut(folds[0]).items)),
            Term("generating and summing", count_items(folds), "training items", second[1]),
            Term("generating, summing, thresholds", count_items(last), "training items", sweeping),
            Term("generating and scoring", images, "test items", scoring),
            Term("storing and adding sums", shards, "shards", stored),
            Term("solving drafts, then all probes", 1, "run", drafting + solving),
            Term("learning curves", curves, "curves", learning),
            Term("intervals", per_image, "cells and metrics", _interval_seconds(images)),
        ]  # fmt: skip

    def _gathered(self, block: Block) -> tuple[SufficientStatistics, float]:
        """The sums of a block, and its seconds per item."""
        cut = self._cut(block)
        (sums, _), seconds = self._timed(
            lambda: sum_block(self.study, self.recorded, cut, self._permutations(cut))
        )
        return sums, seconds / len(cut.items)

    def _calibrated(self, block: Block, draft: ProbeSet) -> tuple[dict[str, Tensor], float]:
        cut = self._cut(block)
        (_, swept, _), seconds = self._timed(
            lambda: sweep_block(self.study, self.recorded, cut, self._permutations(cut), draft)
        )
        return swept, seconds / len(cut.items)

    def _scored(self, block: Block, probe_set: ProbeSet) -> float:
        cut = self._cut(block)
        _, seconds = self._timed(lambda: score_block(self.study, self.recorded, cut, probe_set))
        return seconds / len(cut.items)

    def _timed(self, stage: Callable[[], T]) -> tuple[T, float]:
        """What a stage gives, and its seconds; its peak of memory is kept."""
        found: list[tuple[T, float]] = []
        peak = peak_during(lambda: found.append(timed(stage)))
        if peak is not None:
            self._peaks.append(peak)
        return found[0]

    def _permutations(self, cut: Block) -> list[list[int]]:
        """As many as the run will have; a sample of few items repeats its own, which costs the same."""
        own = cut.permutations(draws_of([cut], self.study.draws))
        return list(islice(cycle(own), self.study.draws))

    def _cut(self, block: Block) -> Block:
        return replace(
            block, items=block.items[: max(2, self.items)] if self.items else block.items
        )


def _weight_bytes(probe_set: ProbeSet) -> int:
    probes = [probe for solved in probe_set.probes.values() for probe in solved.values()]
    return sum(probe.weights.nbytes * (1 if probe.pattern is None else 2) for probe in probes)


def _strip_bytes(study: Study) -> int:
    """Of the report's strips: images in bytes, labels in fp32; the readings, of tokens, are small."""
    images = 3 * (1 + len(strip_steps(study)))
    labels = 4 * sum(not task.per_image for task in study.tasks.values())
    return STRIP_ITEMS * study.components.image_side**2 * (images + labels)


def _stored(sums: SufficientStatistics) -> tuple[float, int]:
    """Seconds to write a shard of sums and to read it as often as a run does, and its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder), "plan")
        _, writing = timed(lambda: shards.write("sums", sums.tensors()))
        _, reading = timed(lambda: sums_of_tensors(shards.read("sums")))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
    return writing + _READS * reading, size


def _interval_seconds(images: int) -> float:
    """Seconds per cell and metric."""
    scores = np.random.default_rng(0).random((_CELLS, images))
    intervals(scores)
    return timed(lambda: intervals(scores))[1] / _CELLS
