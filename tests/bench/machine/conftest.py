"""A measured machine that nobody measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench.machine.records import Machine


def _engine(name: str, row_seconds: float) -> dict[str, Any]:
    return {
        "name": name,
        "precision": "fp32",
        "device": "cpu",
        "errors": {"noise": 1e-6, "mid.0": 2e-6},
        "rows": 8,
        "row_seconds": row_seconds,
        "untapped_row_seconds": row_seconds / 1.25,
        "opening_seconds": 2.0,
        "images": 8,
        "generation_seconds": 4.0,
        "extraction_seconds": 5.0,
        "share": 0.5,
    }


@pytest.fixture
def facts() -> dict[str, Any]:
    """The contents of the file, with a reading at full size for the first engine."""
    full = {
        "what": "all of a network",
        "flops_per_row": 8e11,
        "rows": 1,
        "row_seconds": 8.0,
        "share": 0.8,
        "parameters": 100_000_000,
        "opening_seconds": 10.0,
    }
    widths = [
        {
            "channels": channels,
            "columns": channels + 26,
            "sum_seconds": 1e-9 * channels,
            "read_seconds": 1e-9,
            "eigenproblem_seconds": 1e-9 * channels**3,
            "target_seconds": 1e-9 * channels**2,
        }
        for channels in (64, 640)
    ]
    return {
        "version": 1,
        "environment": {"cores": 2, "versions": {"torch": "2"}, "processor": "A Processor"},
        "threads": 1,
        "took_seconds": 90.0,
        "model": "tiny",
        "flops_per_row": 1e9,
        "parameters": 5_500_000,
        "tap_values": 69_504,
        "peaks": {"fp32 cpu": 1e11},
        "engines": [
            {**_engine("onnxruntime", 0.01), "full_size": full},
            _engine("torch_eager", 0.02),
        ],
        "left_out": {"torch_compile": "compiles for minutes"},
        "statistics": widths,
        "autoencoder": [{"name": "tiny", "flops": 1e9, "seconds": 0.01}],
        "text": [{"name": "tiny", "flops": 1e7, "seconds": 0.001}],
        "pixel_seconds": {"tiny": 1e-6},
        "score_seconds": {"saliency": 1e-8, "depth": 2e-8},
        "target_seconds": {"saliency": 1e-8, "depth": 1e-7},
        "sweep_seconds": 1e-7,
        "interval_seconds": 1e-7,
        "check_seconds": 1e-10,
        "storing_seconds": 1e-9,
        "copies": None,
    }


@pytest.fixture
def machine(facts: dict[str, Any]) -> Machine:
    """The record of these facts."""
    import json

    return Machine.model_validate_json(json.dumps(facts))
