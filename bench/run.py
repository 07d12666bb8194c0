"""The experiment: generate training images, fit all probes, generate test images, score.

Every image is generated once, and no activation is stored. Each stage writes its results to disk
as shards, so that an interrupted run continues where it stopped.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from tqdm import tqdm

from bench.config import Config
from bench.measure import release_memory
from bench.networks import recorded_model
from bench.runs.checkpoints import Checkpoints
from bench.runs.clean import clean, clean_if_free
from bench.runs.folder import RunFolder, default_out, open_folder
from bench.runs.learning_curves import write_learning
from bench.runs.shard_keys import Stage
from bench.runs.workers import Workers, sharing_cores
from bench.runs.write import write_results
from bench.stages import (
    accumulate,
    fit,
    kept_eigenbases,
    learning_curves,
    score,
    stored_scores,
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
    """Run the experiment, or continue it, and return its folder.

    Several ranks divide generating and fitting, and the first writes the results. Raises
    IncompleteError when shards are missing that others have to make.
    """
    study = sharing_cores(open_study(config), workers)
    with workers.leader_first():
        folder = open_folder(Path(config.out) if config.out else default_out(study), study)
    if folder.finished:
        if workers.leads:
            # An earlier process may have been killed before it removed the shards.
            clean_if_free(folder, study.fingerprint)
        return folder
    with workers.keep(folder), _progress(study, workers) as progress:
        shards = Shards(folder.path / "shards", study.fingerprint)
        _experiment(study, folder, Checkpoints(workers, shards, progress))
        if workers.leads:
            clean(folder, study.fingerprint)
    return folder


def _experiment(study: Study, folder: RunFolder, checkpoints: Checkpoints) -> None:
    model, networks = recorded_model(study)

    @cache
    def opened() -> RecordedModel:
        torch.set_num_threads(study.threads)
        networks.open()
        networks.release_weights()
        return model

    # Training images of all folds but the last: second moments of activations and labels.
    accumulate(study, opened, checkpoints)
    # Thresholds of masks come from the last fold, read by draft probes of the other folds.
    thresholded = [name for name, task in study.tasks.items() if task.thresholded]
    # Cross-validation scores the last fold by probes of the same other folds.
    shared = kept_eigenbases(study)
    draft = fit(study, checkpoints, Stage.DRAFT, study.folds - 1, thresholded, shared.keep)
    sweep_thresholds(study, opened, checkpoints, draft)
    thresholds = best_thresholds(draft, stored_sweep(study, checkpoints, draft))
    # Probes of all folds.
    tasks = list(study.tasks)
    probe_set = fit(study, checkpoints, Stage.FINAL, study.folds, tasks, shared.take)
    probe_set = replace(probe_set, thresholds=thresholds)
    if checkpoints.workers.leads:
        write_learning(folder.path, learning_curves(study, checkpoints, probe_set))
    release_memory()
    # Test images: every metric of every probe and baseline, per image.
    if DECODED in study.config.baselines:
        steps = study.config.probed_steps
        probe_set = with_readings(probe_set, DECODED, DECODED_LAYERS, steps)
    score(study, opened, checkpoints, probe_set)
    networks.close()
    release_memory()
    if checkpoints.workers.leads:
        scores, world = stored_scores(study, checkpoints), checkpoints.workers.world
        write_results(folder, study, model, probe_set, scores, checkpoints.cost(), world)


def _progress(study: Study, workers: Workers) -> tqdm[None]:
    return tqdm(
        total=study.items,
        unit="item",
        desc="generating",
        smoothing=0.05,
        disable=not workers.shows_progress,
    )
