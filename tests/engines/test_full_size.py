"""Stable Diffusion v1 at full size: ONNX Runtime against PyTorch, each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS, WORDS, WIDTH, SIDE = 2, 77, 768, 64
MOST_BYTES = 12 << 30

CALL = f"""
import gc, json, sys, time
from importlib import import_module
import torch
from bench.measure import peak_bytes
from engines.cache import default_cache
from engines.conditioning import Conditioning
from engines.families.unet import FAMILY
from engines.families.unet.taps import self_attention_taps
from engines.models.sd_v1 import untrained

torch.manual_seed(0)
unet = untrained().requires_grad_(False).eval()
taps = self_attention_taps(unet)
draw = torch.Generator().manual_seed(1)
latents = torch.randn({ROWS}, 4, {SIDE}, {SIDE}, generator=draw)
text = Conditioning({{"text": torch.randn({ROWS}, {WORDS}, {WIDTH}, generator=draw)}})
backend = import_module("engines.backends." + sys.argv[1]).BACKEND
denoiser = FAMILY.wrapped(unet, (4, {SIDE}, {SIDE}))
engine = backend.open(denoiser, taps, default_cache(), 2)
del unet, denoiser
gc.collect()
started = time.perf_counter()
prediction = engine(latents, 500.0, text)
seconds = time.perf_counter() - started
outputs = {{"noise": prediction.noise, **prediction.taps}}
if sys.argv[1] == "torch_eager":
    torch.save(outputs, sys.argv[2])
    errors = {{}}
else:
    reference = torch.load(sys.argv[2])
    errors = {{
        name: float((outputs[name] - value).norm() / value.norm())
        for name, value in reference.items()
    }}
print(json.dumps({{"seconds": seconds, "peak_bytes": peak_bytes(), "errors": errors}}))
"""


def called(engine: str, file: Path) -> dict[str, object]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CALL, engine, str(file)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-800:]
    record = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(record, dict)
    return record


@pytest.mark.slow
def test_onnxruntime_computes_the_full_size_network_in_twelve_gibibytes(tmp_path: Path) -> None:
    file = tmp_path / "outputs.pt"
    called("torch_eager", file)
    record = called("onnxruntime", file)
    errors, peak = record["errors"], int(str(record["peak_bytes"]))
    assert isinstance(errors, dict)
    print(f"{record['seconds']:.1f} s a step, {peak / 2**30:.1f} GiB, errors {errors}")
    assert len(errors) == 17
    assert max(errors.values()) <= 1e-4
    assert peak < MOST_BYTES
