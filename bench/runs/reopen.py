"""Open what a finished run was made with, to generate its images again."""

from __future__ import annotations

import torch

from bench.config import config_of
from bench.errors import UserError
from bench.runs.results import Results
from bench.study import Study, open_study
from engines.engine import Engine


def reopened(results: Results, threads: int | None) -> tuple[Study, Engine]:
    """The study of a run and the engine that generates.

    Raises UserError when this installation would not generate the run's images.
    """
    options = results.options | {"threads": threads, "out": None}
    study = open_study(config_of(options))
    if study.fingerprint != results.fingerprint:
        raise UserError(
            f"{results.path} was made with other weights, another labeler or other package versions than are here; "
            "make the run again, then repeat this command"
        )
    torch.set_num_threads(study.threads)
    return study, study.opened()
