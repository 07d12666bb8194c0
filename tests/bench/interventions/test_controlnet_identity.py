"""Stored trials belong to one ControlNet: its weights and what its configuration says of them."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

from bench.interventions.controlnet import SHIPPED, Steering
from bench.runs.results import Results
from bench.study import open_study


def test_another_configuration_of_the_same_weights_is_another_controlnet(
    small_run: Results, tmp_path: Path
) -> None:
    study = open_study(small_run.config)
    shipped = Steering(study, SHIPPED / "mask", "saliency").fingerprint
    copy = Path(copytree(SHIPPED / "mask", tmp_path / "mask"))
    assert Steering(study, copy, "saliency").fingerprint == shipped
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"norm_eps": 0.1}))
    assert Steering(study, copy, "saliency").fingerprint != shipped
