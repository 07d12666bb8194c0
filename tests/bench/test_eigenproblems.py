"""How many eigenproblems a run solves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.config import Config
from bench.run import run

POSITION = 14
"""Columns of position alone."""


def test_draft_final_probes_and_curves_share_their_eigenproblems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []
    real = torch.linalg.eigh

    def counted(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        sides.append(len(matrix))
        return real(matrix)

    monkeypatch.setattr(torch.linalg, "eigh", counted)
    run(
        Config(
            limit=12,
            sampler_steps=1,
            layers=("mid",),
            random_networks=0,
            threads=1,
            out=str(tmp_path / "run"),
        )
    )
    # The input, the predicted clean latent, and the only layer.
    folds, sites = 5, 3
    assert sides.count(POSITION) == folds + folds + 1
    # The fit with position needs none, and that of the draft is the last fold's.
    fits = sites * (folds + folds)
    # Both tasks' curves, with and without position, are of the only layer.
    curves = folds * (folds - 1)
    assert len([side for side in sides if side not in (0, POSITION)]) == fits + curves
