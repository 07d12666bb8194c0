"""A profile folder with known readings, made without measuring anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.profiling.records import (
    STEP,
    EngineFacts,
    MemoryFacts,
    ParityFacts,
    Profile,
    ProfileOptions,
    Sample,
    Work,
    write_profile,
)

SCALES = {"torch_eager": 0.02, "onnxruntime": 0.01}
"""Mean seconds of a step per engine."""


def made_profile(
    folder: Path,
    factor: float = 1.0,
    peak: int = 100,
    seed: int = 0,
    rows: int = 2,
    precision: str = "fp32",
    model: str = "tiny",
    weights: str = "trained",
) -> Path:
    """Write a profile of two engines, ``factor`` times as slow; peak memory in MiB."""
    rng = np.random.default_rng(seed)
    samples = tuple(
        Sample(STEP, engine, 2, 0, number, step, scale * factor * rng.gamma(400, 1 / 400))
        for engine, scale in SCALES.items()
        for number in range(5)
        for step in range(15)
    )
    memory = MemoryFacts(rows, 1, 1, 1, 1, peak * 2**20)
    facts = EngineFacts(precision, "cpu", ParityFacts({}, []), memory)
    options = ProfileOptions(
        model=model,
        weights=weights,
        engines=tuple(SCALES),
        batch=(2,),
        items=2,
        rounds=5,
        threads=1,
        sampler_steps=15,
        baselines=(),
        skip=(),
        run=None,
        out=None,
        guidance=7.5,
        study_items=617,
        extraction_rows=2,
    )
    environment = {"processor": "p", "cores": 2, "python": "3.11.7", "versions": {"torch": "2"}}
    engines = dict.fromkeys(SCALES, facts)
    profile = Profile(environment, options, Work(1, 1, 1, {}), {}, engines, samples)
    return write_profile(folder, profile).parent
