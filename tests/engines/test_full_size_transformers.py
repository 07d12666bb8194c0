"""Published transformers at full size, with random weights: ONNX Runtime against PyTorch.

Each is exported and called in a process of its own, whose peak memory is measured. Their text
encoders are not needed: words are random.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_BYTES = 20 << 30

CALL = """
import gc, json, sys, time
from importlib import import_module
from pathlib import Path
import torch
from bench.measure import peak_bytes
from engines.conditioning import Conditioning
from engines.configurations import INDEX, read_object
from engines.family import family_of
from engines.load import network_class

engine, model, side, words, cache, file = sys.argv[1:]
folder = import_module("engines.models." + model).MODEL.architecture
family = family_of(folder, read_object(folder / INDEX))
torch.manual_seed(0)
kind = network_class(family, family.denoiser)
module = kind.from_config(read_object(folder / family.denoiser / "config.json"))
module.requires_grad_(False).eval()
parameters = sum(weight.numel() for weight in module.parameters())
channels = module.config.in_channels
shape = channels, int(side), int(side)
denoiser = family.wrapped(module, shape)
draw = torch.Generator().manual_seed(1)
latents = torch.randn(1, *shape, generator=draw)
sizes = {
    name: [int(words) if size == "words" else size for size in sizes]
    for name, sizes in denoiser.inputs.items()
}
inputs = {name: torch.randn(1, *size, generator=draw) for name, size in sizes.items()}
if "mask" in inputs:
    inputs["mask"] = (torch.arange(int(words))[None] < int(words) // 2).float()
taps = family.taps(module, "attention", shape)
started = time.perf_counter()
opened = import_module("engines.backends." + engine).BACKEND.open(denoiser, taps, Path(cache), 2)
opening = time.perf_counter() - started
del module, denoiser
gc.collect()
started = time.perf_counter()
prediction = opened(latents, 500.0, Conditioning(inputs))
seconds = time.perf_counter() - started
outputs = {"prediction": prediction.noise, **prediction.taps}
errors = {}
if engine == "torch_eager":
    torch.save(outputs, file)
else:
    for name, value in torch.load(file).items():
        errors[name] = float((outputs[name] - value).norm() / value.norm())
print(json.dumps({"parameters": parameters, "opening": opening, "seconds": seconds,
                  "peak_bytes": peak_bytes(), "errors": errors}))
"""


def called(*arguments: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-800:]
    record = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(record, dict)
    return record


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "side", "words", "parameters", "taps"),
    [
        ("pixart_sigma", 128, 300, 0.61e9, 28),
        # Of 512 x 512 pixels: a row of its own size takes more than four times as long.
        ("sd3_medium", 64, 333, 2.03e9, 24),
    ],
)
def test_onnxruntime_computes_a_full_size_transformer_in_twenty_gibibytes(
    model: str, side: int, words: int, parameters: float, taps: int, tmp_path: Path
) -> None:
    common = (model, str(side), str(words), str(tmp_path), str(tmp_path / "outputs.pt"))
    reference = called("torch_eager", *common)
    record = called("onnxruntime", *common)
    errors, peak = record["errors"], int(str(record["peak_bytes"]))
    assert isinstance(errors, dict)
    print(
        f"{model}: opened in {record['opening']:.0f} s, {record['seconds']:.0f} s a row "
        f"(PyTorch {reference['seconds']:.0f} s), {peak / 2**30:.1f} GiB, errors {errors}"
    )
    assert float(str(record["parameters"])) == pytest.approx(parameters, rel=0.01)
    assert len(errors) == taps + 1
    assert max(errors.values()) <= 1e-4
    assert peak < MOST_BYTES
