"""The profile: engines in turn on the same inputs, their memory, their layers, and what others would have paid."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bench.config import Config
from bench.environment import environment
from bench.errors import UserError, user_errors
from bench.labeling import NETWORKS
from bench.measure import matrix_rate, timed
from bench.profiling.calls import (
    Contender,
    contend,
    extract,
    extractions,
    first_calls,
    inputs_of,
    layer_samples,
    steady_calls,
    untapped_error,
)  # fmt: skip
from bench.profiling.config import REFERENCE, ProfileConfig, chosen_engines
from bench.profiling.flops import work_of
from bench.profiling.hooks import generate_with_hooks, pipeline_of
from bench.profiling.memory import memory_of
from bench.profiling.parity import parity_of
from bench.profiling.probe_parity import changes, scores_with, stored_probes
from bench.profiling.published import authors_terms
from bench.profiling.records import (
    FILES,
    HOOKS_BATCHED,
    HOOKS_ONE,
    NO_STEP,
    EngineFacts,
    LayerSample,
    MemoryFacts,
    ParityFacts,
    Profile,
    Sample,
    Term,
    write_profile,
)  # fmt: skip
from bench.runs.folder import stored_config
from bench.study import Study, model_spec, open_study
from datasets.items import Item
from datasets.splits import FOLDS, Block, blocks_of
from engines.models.tiny import MODEL as TINY
from extract.networks import TRAINED
from probes.solve import solve_probe_set

PARITY_ITEMS = 2
LAYER_CALLS = 2
"""Calls under an engine's own profiler, per step."""


def profile(config: ProfileConfig) -> tuple[Profile, Path]:
    """Measure all that ``config`` asks for, and store it; the profile, and its folder."""
    engines = chosen_engines(config)
    folder = opened_folder(config)
    study = open_profile_study(config)
    torch.set_num_threads(study.threads)
    probes = stored_probes(Path(config.run), study, config.model) if config.run else None
    job = _Job(config, study)
    contenders, samples = job.open(engines)
    peaks: dict[str, list[float]] = {}
    if "hooks" in config.baselines:
        job.hooks(0)
    for number in tqdm(range(config.rounds), desc="rounds", unit="round", file=sys.stderr):
        samples += job.round(contenders, number)
        for device, precision in sorted({(one.device, one.precision) for one in contenders}):
            rate = matrix_rate(precision, device)
            if rate is not None:
                peaks.setdefault(f"{precision} {device}", []).append(rate)
    truth = scores_with(contenders[0].engine, probes, study, job.blocks) if probes else {}
    facts, layers = {}, []
    for contender in tqdm(
        contenders, desc="parity, layers, memory", unit="engine", file=sys.stderr
    ):
        parity = job.parity(contender)
        if probes:
            ours = scores_with(contender.engine, probes, study, job.blocks)
            parity = replace(parity, scores=changes(truth, ours, study))
        found, coverage = job.layers(contender)
        layers += found
        facts[contender.name] = EngineFacts(
            contender.precision, contender.device, parity, job.memory(contender), coverage
        )
    words = int(inputs_of(study, 1).text.shape[1])
    work, modules = work_of(study.components.unet, study.taps, words)
    authors = "authors" in config.baselines
    measured = Profile(
        environment=environment().as_json(),
        options=asdict(config) | {"engines": list(engines), "threads": study.threads, "guidance": study.guidance}
        | {"study_items": study.items, "extraction_rows": job.rows},
        work=work,
        modules=modules,
        peaks=peaks,
        engines=facts,
        samples=tuple(samples),
        layers=tuple(layers),
        authors=authors_terms(study, job.items[:PARITY_ITEMS]) if authors else [],
        ours=[job.solving(contenders[-1])] if authors else [],
    )  # fmt: skip
    return measured, write_profile(folder, measured).parent


def opened_folder(config: ProfileConfig) -> Path:
    """Make the folder before anything is measured. Raises UserError when it cannot be, or holds something else."""
    name = f"profile-{Path(config.model).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(config.out) if config.out else Path("runs") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = [path.name for path in folder.iterdir() if path.name not in FILES]
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot use {folder} as the profile folder ({error}); choose another --out"
        ) from error
    if foreign:
        raise UserError(f"{folder} holds {foreign[0]}, which is no profile's; choose another --out")
    return folder


@dataclass(frozen=True, slots=True)
class _Job:
    """One profile in progress."""

    config: ProfileConfig
    study: Study

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The items that whole extractions generate."""
        test = [item for block in self.study.test for item in block.items]
        return blocks_of(test[: self.config.items], "test")

    @property
    def items(self) -> list[Item]:
        """The same, in one list."""
        return [item for block in self.blocks for item in block.items]

    @property
    def rows(self) -> int:
        """Rows per engine call in extractions: the largest batch."""
        return max(self.config.batch)

    @property
    def sizes(self) -> list[int]:
        """Rows of every call to come: engines may compile for each, and that is no part of a steady state."""
        sizes = set(self.config.batch)
        if "extraction" not in self.config.skip:
            for block in self.blocks:
                rows = 2 * len(block.items)
                sizes |= {min(self.rows, rows - start) for start in range(0, rows, self.rows)}
        return sorted(sizes)

    def open(self, engines: Sequence[str]) -> tuple[list[Contender], list[Sample]]:
        """Open every engine and make its first calls."""
        contenders, samples = [], []
        for name in tqdm(engines, desc="opening", unit="engine", file=sys.stderr):
            contender, opening = contend(
                name, self.study, max(self.sizes), "untapped" not in self.config.skip
            )
            contenders.append(contender)
            samples.append(opening)
            for rows in self.sizes:
                samples += first_calls(
                    contender, inputs_of(self.study, rows), rows in self.config.batch
                )
        return contenders, samples

    def round(self, contenders: Sequence[Contender], number: int) -> list[Sample]:
        """Every engine once at every batch size; then extractions and the hooks, one after the other."""
        samples: list[Sample] = []
        for rows in self.config.batch:
            samples += steady_calls(contenders, inputs_of(self.study, rows), number)
        if "extraction" not in self.config.skip:
            for contender in contenders:
                samples += extractions(contender, self.study, self.blocks, self.rows, number)
        if "hooks" in self.config.baselines:
            samples += self.hooks(number)
        return samples

    def hooks(self, number: int) -> list[Sample]:
        """The obvious way on the same items, image by image and as many at once as an engine call has rows for."""
        pipeline, items, samples = pipeline_of(self.study), self.items, []
        for what, at_once in ((HOOKS_ONE, 1), (HOOKS_BATCHED, max(1, self.rows // 2))):
            _, seconds = timed(partial(generate_with_hooks, self.study, pipeline, items, at_once))
            samples.append(
                Sample(what, REFERENCE, 2 * at_once, len(items), number, NO_STEP, seconds)
            )
        return samples

    def parity(self, contender: Contender) -> ParityFacts:
        """Errors against PyTorch in fp32."""
        found = parity_of(self.study, contender.engine, min(PARITY_ITEMS, self.config.items))
        untapped = untapped_error(contender, inputs_of(self.study, self.config.batch[0]))
        return ParityFacts(dict(found.given), list(found.own), untapped)

    def layers(self, contender: Contender) -> tuple[list[LayerSample], float | None]:
        """Where the time goes, if the engine can tell and it was not left out."""
        if "layers" in self.config.skip:
            return [], None
        return layer_samples(contender, inputs_of(self.study, self.rows), LAYER_CALLS)

    def memory(self, contender: Contender) -> MemoryFacts | None:
        """Memory in a process of its own, unless it was left out."""
        if "memory" in self.config.skip:
            return None
        config, words = self.config, inputs_of(self.study, 1).text.shape[1]
        try:
            return memory_of(
                config.model, config.weights, contender.name, self.rows, words, self.study.threads
            )
        except UserError as error:
            # The clock readings are taken by now: they are worth keeping without it.
            tqdm.write(f"no memory reading: {error}", file=sys.stderr)
            return None

    def solving(self, contender: Contender) -> Term:
        """Solving every probe of a run: sums have the same size whatever the items, so any block's will do."""
        sums = extract(contender, self.study, self.blocks[:1], self.rows, True)
        steps = range(self.study.config.sampler_steps)
        # On the CPU, as one reading serves all engines.
        solve = partial(
            solve_probe_set,
            sums * FOLDS,
            list(self.study.tasks),
            steps,
            {TRAINED},
            self.study.threads,
        )
        return Term("every probe solved, controls included", 1, "run", [timed(solve)[1]])


def open_profile_study(config: ProfileConfig) -> Study:
    """Resolve the model. Raises UserError, with the way out, when the trained model cannot be had."""
    labeled = _labels_of(config.run)
    asked = Config(
        **labeled,
        model=config.model,
        weights=config.weights,
        engine=REFERENCE,
        sampler_steps=config.sampler_steps,
        threads=config.threads,
    )
    try:
        return open_study(asked, labels=bool(labeled))
    except user_errors() as error:
        if config.weights == "random" or model_spec(config.model).source == TINY.source:
            raise
        raise UserError(
            f"{error} (without weights, profile the architecture: --weights random)"
        ) from error


def _labels_of(run: str | None) -> dict[str, Any]:
    """What labels the images of a run whose probes are applied; without one no label is scored."""
    if run is None:
        return {}
    stored = stored_config(Path(run))
    return {name: getattr(stored, name) for name in ("labeler", "saliency_size", *NETWORKS)}
