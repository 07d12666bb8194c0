"""A path of several methods: one table and one row of images each."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.__main__ import main
from bench.interventions.arms import CONTROLNET
from bench.interventions.config import Plan
from bench.interventions.path import STRENGTH, arms_of, frames_of
from probes.published_edit import PUBLISHED


def test_a_gif_has_a_row_per_method(
    copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gif = tmp_path / "moving.gif"
    arguments = [
        *("intervene", str(copied_run), "--path", "circle", "--gif", str(gif)),
        *("--methods", "pattern,published,controlnet", "--strengths", "4", "--layers", "up2.1"),
        *("--items", "2", "--frames", "3", "--threads", "1", "--steps", "1"),
    ]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    titles = [line for line in printed.splitlines() if "correlation of target" in line]
    assert [title.partition(":")[0] for title in titles] == [
        "pattern at strength 4",
        "published at strength 1",
        "controlnet at strength 1",
    ]
    assert sum(line.startswith("mean") for line in printed.splitlines()) == 3
    with Image.open(gif) as image:
        assert image.n_frames == 3
        width, height = image.size
        assert height == 3 * 192 + 2 * 6
        assert width > 2 * 192 + 6
        last = []
        for frame in range(3):
            image.seek(frame)
            last.append(np.asarray(image.convert("RGB"))[-192:].astype(int))
    # The network that is made to steer moves something from frame to frame.
    assert np.abs(last[0] - last[1]).mean() > 1


def test_rows_are_in_the_order_of_the_methods_and_bear_their_names() -> None:
    dark, bright = (torch.full((2, 3, 8, 8), level) for level in (0.0, 1.0))
    frames = frames_of({"pattern": [dark, dark], "published": [bright, bright]})
    assert len(frames) == 2
    pixels = np.asarray(frames[0])
    assert (pixels[:192, -192:] == 0).all()
    assert (pixels[-192:, -192:] == 255).all()
    margin = pixels.shape[1] - 2 * 192 - 6
    assert margin > 0
    for rows in (slice(0, 192), slice(-192, None)):
        assert (pixels[rows, :margin] < 128).any()
    (single, _) = frames_of({"pattern": [dark, dark]})
    assert single.size == (2 * 192 + 6, 192)


def test_a_typed_strength_among_several_methods_is_that_of_ridge_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.interventions.path.read_summary", lambda *_: None)
    run: Any = Namespace(results=Namespace(path=Path()))
    plan = Plan(published_strengths=(2.0,), controlnet_strengths=(0.25, 0.5))

    def strengths(methods: list[str] | None, typed: list[float] | None) -> dict[str, float]:
        return {arm.method: arm.strength for arm in arms_of(run, plan, methods, typed)}

    methods = ["weights", PUBLISHED, CONTROLNET]
    assert strengths(methods, [16.0]) == {"weights": 16.0, PUBLISHED: 2.0, CONTROLNET: 0.5}
    assert strengths(methods, None) == {"weights": STRENGTH, PUBLISHED: 2.0, CONTROLNET: 0.5}
    assert strengths([PUBLISHED], [3.0]) == {PUBLISHED: 3.0}
    assert strengths(None, None) == {"pattern": STRENGTH}
