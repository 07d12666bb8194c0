"""The experiment: paint every training picture once, solve all probes, paint every test picture once, score."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import torch
from tqdm import tqdm

from bench.config import Config
from bench.measure import give_back_memory
from bench.networks import Networks, subject_of
from bench.runs.checkpoints import Maker
from bench.runs.folder import RunFolder, default_out, open_folder
from bench.runs.learning_curves import LEARNING, learning_rows, write_learning
from bench.runs.workers import Ranks, sharing_cores
from bench.runs.write import write_results
from bench.stages import accumulate, score, solve, stored_scores, stored_sums, stored_sweep, sweep_thresholds
from bench.study import Study, open_study
from extract.networks import DECODED, DECODED_LAYERS
from extract.shards import Shards
from extract.stream import Subject
from probes.probe_set import with_readings
from probes.readout import best_thresholds

ALONE = Ranks()


def run(config: Config, ranks: Ranks = ALONE) -> RunFolder:
    """Run the experiment, or go on with it, and give its folder. Finished shards are never made again.

    Several ranks divide painting and solving, and the first writes. Raises IncompleteError when shards are
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
        maker = Maker(ranks, Shards(folder.path / "shards", study.fingerprint), progress)
        watched, networks = subject_of(study)
        opened = cache(partial(_opened, study, watched, networks))
        accumulate(study, opened, maker)
        # The last fold is painted when the others are solved: their draft probes read its pictures as they stream by,
        # and the thresholds come from training pictures that those probes were not fit to.
        thresholded = [name for name, task in study.tasks.items() if task.thresholded]
        draft = solve(study, maker, "draft", study.folds - 1, thresholded)
        sweep_thresholds(study, opened, maker, draft)
        bank = solve(study, maker, "final", study.folds, list(study.tasks))
        bank = replace(bank, thresholds=best_thresholds(draft, stored_sweep(study, maker, draft)))
        if ranks.leads:
            curves = learning_rows(study, bank, lambda place: stored_sums(study, maker, study.folds, [place]))
            write_learning(folder.path / LEARNING, curves)
        give_back_memory()
        if DECODED in config.compare:
            bank = with_readings(bank, DECODED, DECODED_LAYERS, config.probed_steps)
        score(study, opened, maker, bank)
        networks.close()
        give_back_memory()
        if not ranks.leads:
            return folder
        scores, strips = stored_scores(study, maker)
        costs, taken = maker.taken()
        write_results(folder, study, watched, bank, scores, costs, strips, taken, ranks.world)
        _sweep(folder, study)
    return folder


def _opened(study: Study, watched: Subject, networks: Networks) -> Subject:
    torch.set_num_threads(study.threads)
    networks.open()
    networks.let_weights_go()
    return watched


def _sweep(folder: RunFolder, study: Study) -> None:
    """Remove what a finished run no longer needs."""
    Shards(folder.path / "shards", study.fingerprint).remove()
    folder.tidy()
