"""Open the study of a finished run again, to generate its images."""

from __future__ import annotations

from dataclasses import replace

import torch

from bench.errors import UserError
from bench.runs.results import Results
from bench.study import Study, open_study
from engines.engine import Engine


def reopened(results: Results, threads: int | None) -> tuple[Study, Engine]:
    """Return the study of a run and the engine that generates.

    Raises UserError when this installation would not generate the run's images.
    """
    study = open_study(replace(results.config, threads=threads, out=None))
    if study.fingerprint != results.fingerprint:
        raise UserError(
            f"{results.path} was made with other weights, another labeler or other package "
            "versions than are here; make the run again, then repeat this command"
        )
    torch.set_num_threads(study.threads)
    return study, study.opened()
