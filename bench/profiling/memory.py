"""Memory of one engine, in a separate process, so that it excludes the peaks of other engines.

``python -m bench.profiling.memory MODEL WEIGHTS ENGINE ROWS WORDS THREADS`` prints it as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import torch
from pydantic import TypeAdapter

from bench.errors import UserError
from bench.measure import device_bytes, peak_during, release_memory, resident_bytes
from bench.model import components_of, model_spec
from bench.profiling.records import MemoryFacts
from bench.registry import plugin
from engines.cache import default_cache
from engines.engine import Backend

_CALLS = 3


def memory_of(
    model: str, weights: str, engine: str, rows: int, words: int, threads: int
) -> MemoryFacts:
    """Start the process and read its output. Raises UserError when it fails."""
    command = [sys.executable, "-m", "bench.profiling.memory", model, weights, engine]
    command += map(str, (rows, words, threads))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(
            f"the process that measures the memory of {engine} failed: {last}; "
            "--skip memory leaves it out"
        )
    return TypeAdapter(MemoryFacts).validate_json(done.stdout.strip().splitlines()[-1])


def measured(
    model: str, weights: str, engine: str, rows: int, words: int, threads: int
) -> MemoryFacts:
    """Open the engine in this process, call it, and return the memory used."""
    backend: Backend = plugin("engine", engine)
    torch.set_num_threads(threads)
    source = model_spec(model).source
    components = components_of(source, weights)
    denoiser, taps = components.denoiser, components.taps()
    latents, conditioning = denoiser.example(rows, words)
    del components
    # Memory freed by loading and opening would serve the calls and hide their peak.
    release_memory()
    loaded, on_device = resident_bytes(), device_bytes(backend.device)
    opened = backend.open(denoiser, taps, default_cache(), threads)
    release_memory()
    ready = resident_bytes()
    sizes: list[int] = []

    def calls() -> None:
        for _ in range(_CALLS):
            prediction = opened(latents, 1.0, conditioning)
            taps_bytes = sum(tap.nbytes for tap in prediction.taps.values())
            sizes[:] = prediction.noise.nbytes, taps_bytes

    peak = peak_during(calls)
    after = device_bytes(backend.device)
    return MemoryFacts(
        rows=rows,
        weights_bytes=sum(value.nbytes for value in denoiser.module.state_dict().values()),
        taps_bytes=sizes[1],
        io_bytes=latents.nbytes + conditioning.nbytes + sizes[0],
        opened_bytes=max(0, ready - loaded),
        peak_bytes=None if peak is None else peak - ready,
        device_bytes=None if after is None or on_device is None else after - on_device,
    )


if __name__ == "__main__":
    name, kind, backend_name, *numbers = sys.argv[1:]
    print(json.dumps(asdict(measured(name, kind, backend_name, *map(int, numbers)))))
