"""The experiment: generate every training image once, solve all probes, generate every test image once, score."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from tqdm import tqdm

from bench.config import Config
from bench.measure import give_back_memory
from bench.networks import Networks, subject_of
from bench.runs.checkpoints import Checkpoints
from bench.runs.folder import RunFolder, default_out, open_folder
from bench.runs.learning_curves import LEARNING, learning_rows, write_learning
from bench.runs.workers import Workers, sharing_cores
from bench.runs.write import write_results
from bench.stages import (
    accumulate,
    score,
    solve,
    stored_scores,
    stored_sums,
    stored_sweep,
    sweep_thresholds,
)
from bench.study import Study, open_study
from extract.networks import DECODED, DECODED_LAYERS
from extract.shards import Shards
from extract.stream import RecordedModel
from probes.probe_set import with_readings
from probes.readout import best_thresholds

ALONE = Workers()


def run(config: Config, workers: Workers = ALONE) -> RunFolder:
    """Run the experiment, or go on with it, and give its folder. Finished shards are never made again.

    Several ranks divide generating and solving, and the first writes. Raises IncompleteError when shards are
    missing that others have to make.
    """
    study = sharing_cores(open_study(config), workers)
    with workers.leader_first():
        folder = open_folder(Path(config.out) if config.out else default_out(study), study)
    if folder.finished:
        if workers.leads:
            # It may have been killed as it swept up.
            _sweep(folder, study)
        return folder
    with (
        workers.keep(folder),
        tqdm(
            total=study.items,
            unit="item",
            desc="generating",
            smoothing=0.05,
            disable=not workers.shows,
        ) as progress,
    ):
        checkpoints = Checkpoints(
            workers, Shards(folder.path / "shards", study.fingerprint), progress
        )
        watched, networks = subject_of(study)
        opened = cache(partial(_opened, study, watched, networks))
        accumulate(study, opened, checkpoints)
        # The last fold is generated when the others are solved: their draft probes read its images as they stream by,
        # and the thresholds come from training images that those probes were not fit to.
        thresholded = [name for name, task in study.tasks.items() if task.thresholded]
        draft = solve(study, checkpoints, "draft", study.folds - 1, thresholded)
        sweep_thresholds(study, opened, checkpoints, draft)
        probe_set = solve(study, checkpoints, "final", study.folds, list(study.tasks))
        probe_set = replace(
            probe_set, thresholds=best_thresholds(draft, stored_sweep(study, checkpoints, draft))
        )
        if workers.leads:
            curves = learning_rows(
                study, probe_set, lambda site: stored_sums(study, checkpoints, study.folds, [site])
            )
            write_learning(folder.path / LEARNING, curves)
        give_back_memory()
        if DECODED in config.compare:
            probe_set = with_readings(probe_set, DECODED, DECODED_LAYERS, config.probed_steps)
        score(study, opened, checkpoints, probe_set)
        networks.close()
        give_back_memory()
        if not workers.leads:
            return folder
        scores, strips = stored_scores(study, checkpoints)
        costs, taken = checkpoints.taken()
        write_results(
            folder, study, watched, probe_set, scores, costs, strips, taken, workers.world
        )
        _sweep(folder, study)
    return folder


def _opened(study: Study, watched: RecordedModel, networks: Networks) -> RecordedModel:
    torch.set_num_threads(study.threads)
    networks.open()
    networks.let_weights_go()
    return watched


def _sweep(folder: RunFolder, study: Study) -> None:
    """Remove what a finished run no longer needs."""
    Shards(folder.path / "shards", study.fingerprint).remove()
    folder.tidy()
