"""Profile engines on the same inputs: times, memory, layers, errors, and baselines."""

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
from bench.model import model_spec
from bench.profiling.calls import (
    OpenedEngine,
    extract,
    extractions,
    first_calls,
    inputs_of,
    layer_samples,
    open_engine,
    steady_calls,
    untapped_error,
)
from bench.profiling.config import REFERENCE, ProfileConfig, chosen_engines
from bench.profiling.flops import work_of
from bench.profiling.hooks import generate_with_hooks, pipeline_of
from bench.profiling.memory import memory_of
from bench.profiling.parity import parity_of
from bench.profiling.probe_parity import score_changes, scores_with, stored_probes
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
    ProfileOptions,
    Sample,
    Term,
    write_profile,
)
from bench.runs.folder import stored_config
from bench.study import Study, open_study
from datasets.items import Item
from datasets.splits import FOLDS, Block, blocks_of
from engines.models.tiny import MODEL as TINY
from extract.networks import TRAINED
from probes.solve import solve_probe_set

PARITY_ITEMS = 2
LAYER_CALLS = 2
"""Calls per step under an engine's own profiler."""


def profile(config: ProfileConfig) -> tuple[Profile, Path]:
    """Measure and store everything that ``config`` names; return the profile and its folder."""
    names = chosen_engines(config)
    folder = opened_folder(config)
    study = open_profile_study(config)
    if "hooks" in config.baselines:
        # Refused before engines are opened.
        pipeline_of(study)
    torch.set_num_threads(study.threads)
    probes = stored_probes(Path(config.run), study, config.model) if config.run else None
    session = _Session(config, study)
    engines, samples = session.open(names)
    kinds = sorted({(one.backend.device, one.backend.precision) for one in engines})
    peaks: dict[str, list[float]] = {}
    if "hooks" in config.baselines:
        # The first pass warms the pipeline up.
        session.hooks(0)
    for number in tqdm(range(config.rounds), desc="rounds", unit="round", file=sys.stderr):
        samples += session.round(engines, number)
        for device, precision in kinds:
            rate = matrix_rate(precision, device)
            if rate is not None:
                peaks.setdefault(f"{precision} {device}", []).append(rate)
    reference = scores_with(engines[0].engine, probes, study, session.blocks) if probes else {}
    facts, layers = {}, []
    for opened in tqdm(engines, desc="parity, layers, memory", unit="engine", file=sys.stderr):
        parity = session.parity(opened)
        if probes:
            scores = scores_with(opened.engine, probes, study, session.blocks)
            parity = replace(parity, scores=score_changes(reference, scores, study))
        own_times, coverage = session.layers(opened)
        layers += own_times
        backend, memory = opened.backend, session.memory(opened)
        facts[opened.name] = EngineFacts(
            backend.precision, backend.device, parity, memory, coverage
        )
    work, modules = work_of(study.components.denoiser, study.taps, session.words)
    published = "authors" in config.baselines
    resolved = {
        "engines": names,
        "threads": study.threads,
        "guidance": study.guidance,
        "study_items": study.items,
        "extraction_rows": session.rows,
    }
    measured = Profile(
        environment=environment().as_json(),
        options=ProfileOptions(**asdict(config) | resolved),
        work=work,
        modules=modules,
        peaks=peaks,
        engines=facts,
        samples=tuple(samples),
        layers=tuple(layers),
        authors=authors_terms(study, session.items[:PARITY_ITEMS]) if published else [],
        solving=[session.solving(engines[-1])] if published else [],
    )
    return measured, write_profile(folder, measured).parent


def opened_folder(config: ProfileConfig) -> Path:
    """Make the profile folder. Raises UserError if it is not writable or holds other files."""
    name = f"profile-{Path(config.model).name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = Path(config.out) if config.out else Path("runs") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        others = [path.name for path in folder.iterdir() if path.name not in FILES]
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot use {folder} as the profile folder ({error}); choose another --out"
        ) from error
    if others:
        raise UserError(f"{folder} holds {others[0]}, no file of a profile; choose another --out")
    return folder


@dataclass(frozen=True, slots=True)
class _Session:
    """The measurements of one profile."""

    config: ProfileConfig
    study: Study

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The items of whole extractions, in blocks."""
        test = [item for block in self.study.test for item in block.items]
        return blocks_of(test[: self.config.items], "test")

    @property
    def items(self) -> list[Item]:
        """The items of whole extractions."""
        return [item for block in self.blocks for item in block.items]

    @property
    def rows(self) -> int:
        """Rows per engine call in extractions: the largest batch."""
        return max(self.config.batch)

    @property
    def sizes(self) -> list[int]:
        """Rows of all later calls, for each of which an engine may compile at its first call."""
        sizes = set(self.config.batch)
        if "extraction" not in self.config.skip:
            for block in self.blocks:
                rows = 2 * len(block.items)
                sizes |= {min(self.rows, rows - start) for start in range(0, rows, self.rows)}
        return sorted(sizes)

    @property
    def words(self) -> int:
        """Rows of text per item."""
        return inputs_of(self.study, 1).conditioning.words

    def open(self, names: Sequence[str]) -> tuple[list[OpenedEngine], list[Sample]]:
        """Open every engine and make its first calls."""
        engines, samples = [], []
        without_taps = "untapped" not in self.config.skip
        for name in tqdm(names, desc="opening", unit="engine", file=sys.stderr):
            opened, opening = open_engine(name, self.study, max(self.sizes), without_taps)
            engines.append(opened)
            samples.append(opening)
            for rows in self.sizes:
                inputs = inputs_of(self.study, rows)
                samples += first_calls(opened, inputs, rows in self.config.batch)
        return engines, samples

    def round(self, engines: Sequence[OpenedEngine], number: int) -> list[Sample]:
        """Time every engine at every batch size; then extractions and the hooks in turn."""
        samples: list[Sample] = []
        for rows in self.config.batch:
            samples += steady_calls(engines, inputs_of(self.study, rows), number)
        if "extraction" not in self.config.skip:
            for opened in engines:
                samples += extractions(opened, self.study, self.blocks, self.rows, number)
        if "hooks" in self.config.baselines:
            samples += self.hooks(number)
        return samples

    def hooks(self, number: int) -> list[Sample]:
        """Time the hooks on the same items, image by image and in batches of an engine call."""
        pipeline, items, samples = pipeline_of(self.study), self.items, []
        for what, at_once in ((HOOKS_ONE, 1), (HOOKS_BATCHED, max(1, self.rows // 2))):
            _, seconds = timed(partial(generate_with_hooks, self.study, pipeline, items, at_once))
            samples.append(
                Sample(what, REFERENCE, 2 * at_once, len(items), number, NO_STEP, seconds)
            )
        return samples

    def parity(self, opened: OpenedEngine) -> ParityFacts:
        """Errors against PyTorch in fp32."""
        parity = parity_of(self.study, opened.engine, min(PARITY_ITEMS, self.config.items))
        untapped = untapped_error(opened, inputs_of(self.study, self.config.batch[0]))
        return replace(parity, untapped=untapped)

    def layers(self, opened: OpenedEngine) -> tuple[list[LayerSample], float | None]:
        """Own times of the modules, and their share of the calls' time."""
        if "layers" in self.config.skip:
            return [], None
        return layer_samples(opened, inputs_of(self.study, self.rows), LAYER_CALLS)

    def memory(self, opened: OpenedEngine) -> MemoryFacts | None:
        """Memory of the engine in a separate process; None where it was left out or failed."""
        if "memory" in self.config.skip:
            return None
        model, weights, threads = self.config.model, self.config.weights, self.study.threads
        try:
            return memory_of(model, weights, opened.name, self.rows, self.words, threads)
        except UserError as error:
            # The clock readings taken so far are useful without it.
            tqdm.write(f"no memory reading: {error}", file=sys.stderr)
            return None

    def solving(self, opened: OpenedEngine) -> Term:
        """Time to solve all probes of a run, on statistics of one block, whose size is the same."""
        sums = extract(opened, self.study, self.blocks[:1], self.rows, True)
        steps, tasks = range(self.study.config.sampler_steps), list(self.study.tasks)
        # On the CPU, so that one reading serves all engines.
        solve = partial(solve_probe_set, sums * FOLDS, tasks, steps, {TRAINED}, self.study.threads)
        return Term("every probe solved, controls included", 1, "run", [timed(solve)[1]])


def open_profile_study(config: ProfileConfig) -> Study:
    """Open the model. Raises UserError when the trained model is not available."""
    labels = _label_options(config.run)
    run_config = Config(
        **labels,
        model=config.model,
        weights=config.weights,
        engine=REFERENCE,
        sampler_steps=config.sampler_steps,
        threads=config.threads,
    )
    try:
        return open_study(run_config, labels=bool(labels))
    except user_errors() as error:
        if config.weights == "random" or model_spec(config.model).source == TINY.source:
            raise
        raise UserError(
            f"{error} (without weights, profile the architecture: --weights random)"
        ) from error


def _label_options(run: str | None) -> dict[str, Any]:
    """Label options of the run whose probes are applied; empty without one."""
    if run is None:
        return {}
    stored = stored_config(Path(run))
    return {name: getattr(stored, name) for name in ("labeler", "saliency_size", *NETWORKS)}
