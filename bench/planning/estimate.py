"""Estimate a run: operations are counted; times, memory and disk are measured on a few blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from bench.config import Config
from bench.measure import available_bytes, peak_during, resident_bytes, timed
from bench.networks import Networks, recorded_model
from bench.planning.plan import Measured, Plan, Term
from bench.planning.sizes import sizes_of
from bench.planning.solving import bytes_of, cut, sampled_probe_set
from bench.planning.work import stage_work_of
from bench.profiling.flops import decoding_flops, embedding_flops, work_of
from bench.runs.filmstrips import STRIP_ITEMS, strip_decodings, strip_steps
from bench.runs.learning_curves import curves_of, learning_rows
from bench.stages import kept_eigenbases, score_block, sum_block, sweep_block
from bench.study import Study, open_study
from datasets.splits import BLOCK, FOLDS, Block, count_items, draws_of, grouped
from engines.cuda_stream import wait_for
from extract.networks import DECODED, DECODED_LAYERS, TRAINED
from extract.shards import Shards
from extract.stream import RecordedModel
from probes.bootstrap import intervals
from probes.probe_set import STANDARDISED, ProbeSet, with_readings
from probes.readout import best_thresholds
from probes.shared_eigenbases import bytes_of_eigenbases
from probes.statistics import SufficientStatistics, sums_of_tensors

T = TypeVar("T")

_READS = 2
"""Times that a run reads every shard: for the draft or its thresholds, and for the probes."""
_SUMS_HELD = FOLDS + 1
"""Statistics of a site in memory while its probes are solved: the folds', and their total."""
_CELLS = 256
"""Cells whose intervals are timed."""
_NOT_UNET = ("vae", DECODED)
_FLOAT64_BYTES = 8


def plan_of(config: Config, items: int | None = None) -> Plan:
    """Count and measure a run.

    At most ``items`` items (at least 2) of a block are generated for each stage; none at 0, where
    no weights are needed, and none of a random network that needs more memory than is free.
    """
    if items != 0 and config.weights == "random":
        counted = plan_of(config, 0)
        if _needed(counted, config, items) > available_bytes():
            return counted
    study, loading = timed(lambda: open_study(config, drawn=items != 0))
    torch.set_num_threads(study.threads)
    recorded, networks = recorded_model(study)
    measured = None if items == 0 else _measured(_Sample(study, recorded, networks, items), loading)
    train, test = (count_items(blocks) for blocks in (study.train, study.test))
    parts = study.components
    words, decodings = parts.family.words(parts), _decodings(study, train, test)
    return Plan(
        train_items=train,
        test_items=test,
        image_steps=(train + test) * config.sampler_steps,
        engine_rows=_rows(study, recorded.fitted, train) + _rows(study, recorded, test),
        flops_per_row=work_of(parts.denoiser, study.taps, words)[0].flops_per_row,
        decodings=decodings + strip_decodings(study),
        flops_per_decoding=decoding_flops(parts.vae, parts.latent_shape),
        flops_per_prompt=sum(
            embedding_flops(parts.parts[name], tokens)
            for name, tokens in parts.family.lengths(parts).items()
        ),
        sizes=sizes_of(study, recorded, len(networks.engines)),
        width=config.width,
        work=stage_work_of(study, recorded, decodings),
        measured=measured,
    )


def _needed(counted: Plan, config: Config, items: int | None) -> int:
    """Bytes to generate and sum ``items`` items of a block."""
    sums = counted.sizes.exact if config.width is None else counted.sizes.sketched
    share = min(1.0, (items or BLOCK) / BLOCK)
    fixed = counted.sizes.model_bytes + counted.sizes.call_bytes + 2 * sums.set_bytes
    return fixed + round(sums.activation_bytes * share)


def _measured(sample: _Sample, loading: float) -> Measured:
    _, opening = timed(sample.networks.open)
    sample.networks.release_weights()
    terms = [
        Term("loading the model and opening engines", 1, "run", loading + opening),
        *sample.terms(),
    ]
    return Measured(sample.memory, sample.disk, tuple(terms))


def _rows(study: Study, recorded: RecordedModel, items: int) -> int:
    config = study.config
    generation = config.sampler_steps * study.rows_per_step
    sources = (source for name, source in recorded.sources.items() if name not in _NOT_UNET)
    return items * (generation + sum(source.rows_of(config.probed_steps) for source in sources))


def _decodings(study: Study, train: int, test: int) -> int:
    """Latents decoded for labels and baselines."""
    compared, steps = study.config.baselines, len(study.config.probed_steps)
    labels = train + test if study.config.source == "generated" else 0
    vae = (train + test) * steps if "vae" in compared else 0
    return labels + vae + (2 * test * steps if DECODED in compared else 0)


@dataclass
class _Sample:
    """A run in small: one or two blocks for every stage."""

    study: Study
    recorded: RecordedModel
    networks: Networks
    items: int | None
    memory: int = 0
    disk: int = 0
    _peaks: list[int] = field(default_factory=list)

    def terms(self) -> list[Term]:
        """Measure every stage, and set ``memory`` and ``disk``."""
        study, recorded, config = self.study, self.recorded, self.study.config
        opened = resident_bytes()
        folds = [block for block in study.train if block.fold < study.folds - 1]
        last = [block for block in study.train if block.fold == study.folds - 1]

        def accumulate(sample: Block) -> SufficientStatistics:
            return sum_block(study, recorded, sample, self._permutations(sample))[0].cpu()

        # The first block warms engines and allocators up.
        warming, warm_seconds = self._timed(folds[0], accumulate)
        sums, sum_seconds = self._timed(folds[-1], accumulate)
        parts = [(warming, sums)[fold % 2] for fold in range(study.folds)]
        thresholded = [name for name, task in study.tasks.items() if task.thresholded]
        shared = kept_eigenbases(study)
        draft, drafting = sampled_probe_set(parts[:-1], thresholded, study, shared.keep)
        swept, sweeping = self._timed(
            last[0],
            lambda sample: sweep_block(study, recorded, sample, self._permutations(sample), draft)[
                1
            ],
        )
        probe_set, solving = sampled_probe_set(parts, list(study.tasks), study, shared.take)
        probe_set = replace(probe_set, thresholds=best_thresholds(draft, swept))
        rows = learning_rows(study, probe_set, lambda site: cut(parts, {site}))
        _, learning = timed(lambda: list(islice(rows, study.folds - 1)))
        if DECODED in config.baselines:
            probe_set = with_readings(probe_set, DECODED, DECODED_LAYERS, config.probed_steps)
        _, scoring = self._timed(
            study.test[-1], lambda sample: score_block(study, recorded, sample, probe_set)
        )
        shards = sum(
            len(grouped([b for b in study.train if b.fold == fold], config.shard))
            for fold in range(study.folds)
        )
        storing, shard_bytes = stored_seconds(sums)
        per_image = sum(
            len(probe_set.cells(name)) * len(task.metrics) for name, task in study.tasks.items()
        )
        images = count_items(study.test)
        results = (
            per_image * images * _FLOAT64_BYTES + _strip_bytes(study) + _weight_bytes(probe_set)
        )
        # Results are stored twice: in shards, and in the run's own files.
        self.disk = shards * shard_bytes + _weight_bytes(draft) + 2 * results
        largest = max(bytes_of(sums, site) for site in sums.shapes)
        kept = 0
        if thresholded:
            steps, standardised = len(config.probed_steps), STANDARDISED in config.baselines
            kept = bytes_of_eigenbases(sums, steps, {TRAINED}, standardised)
        self.memory = max(
            max(self._peaks, default=resident_bytes()) + bytes_of(sums) + min(kept, shared.limit),
            opened + _SUMS_HELD * largest,
        )
        warm_up = max(0.0, warm_seconds - sum_seconds) * len(self._cut(folds[0]).items)
        curves = len(list(curves_of(study)))
        training = "training items"
        return [
            Term("warming up", 1, "run", warm_up),
            Term("generating and summing", count_items(folds), training, sum_seconds),
            Term("generating, summing, thresholds", count_items(last), training, sweeping),
            Term("generating and scoring", images, "test items", scoring),
            Term("storing and adding sums", shards, "shards", storing),
            Term("solving drafts, then all probes", 1, "run", drafting + solving),
            Term("learning curves", curves, "curves", learning),
            Term("intervals", per_image, "cells and metrics", interval_seconds(images)),
        ]

    def _timed(self, block: Block, stage: Callable[[Block], T]) -> tuple[T, float]:
        """The result of a stage on some items of a block, and its seconds per item.

        The peak of memory is kept.
        """
        sample = self._cut(block)
        results: list[tuple[T, float]] = []

        def whole() -> T:
            result = stage(sample)
            wait_for(self.study.device)
            return result

        peak = peak_during(lambda: results.append(timed(whole)))
        if peak is not None:
            self._peaks.append(peak)
        result, seconds = results[0]
        return result, seconds / len(sample.items)

    def _permutations(self, sample: Block) -> list[list[int]]:
        """As many permutations as in a run; those of few items repeat, at the same cost."""
        own = sample.permutations(draws_of([sample], self.study.draws))
        return list(islice(cycle(own), self.study.draws))

    def _cut(self, block: Block) -> Block:
        items = block.items[: max(2, self.items)] if self.items else block.items
        return replace(block, items=items)


def _weight_bytes(probe_set: ProbeSet) -> int:
    probes = [probe for solved in probe_set.probes.values() for probe in solved.values()]
    return sum(probe.weights.nbytes * (1 if probe.pattern is None else 2) for probe in probes)


def _strip_bytes(study: Study) -> int:
    """Size of the report's strips: images in bytes, labels in fp32, without the readings."""
    images = 3 * (1 + len(strip_steps(study)))
    labels = 4 * sum(not task.per_image for task in study.tasks.values())
    height, width = study.components.image_size
    return STRIP_ITEMS * height * width * (images + labels)


def stored_seconds(sums: SufficientStatistics) -> tuple[float, int]:
    """Seconds to write a shard and to read it as often as a run does, and its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        shards = Shards(Path(folder), "plan")
        _, writing = timed(lambda: shards.write("sums", sums.tensors()))
        _, reading = timed(lambda: sums_of_tensors(shards.read("sums")))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
    return writing + _READS * reading, size


def interval_seconds(images: int) -> float:
    """Seconds per cell and metric."""
    scores = np.random.default_rng(0).random((_CELLS, images))
    intervals(scores)
    return timed(lambda: intervals(scores))[1] / _CELLS
