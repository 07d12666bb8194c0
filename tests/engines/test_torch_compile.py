from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engines.backends.torch_compile import BACKEND
from engines.backends.torch_eager import TorchEager
from engines.conditioning import Conditioning
from engines.denoiser import Denoiser
from engines.families.unet.taps import self_attention_taps
from tests.imports import ROOT
from tests.typecheck import CHECKS_SHAPES, VARIABLE


@pytest.mark.slow
def test_the_contract_holds_without_the_shape_checks_of_tests() -> None:
    """In a process of its own, as the compiler cannot trace the checks that tests add."""
    files = [f"tests/engines/{name}.py" for name in ("test_backend_contract", "test_torch_compile")]
    environment = {**os.environ, VARIABLE: "0"}
    command = [sys.executable, "-m", "pytest", "-m", "slow", "-k", "compile and not contract_holds"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *files],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    *_, last = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout[-4000:]
    assert re.search(r"\b1[0-9] passed", last)
    assert "skipped" not in last


@pytest.mark.slow
@pytest.mark.skipif(CHECKS_SHAPES, reason="the test above runs it without the shape checks")
def test_a_compiled_network_gives_every_output_and_each_call_its_own(
    cache: Path, one_level: Callable[..., Denoiser]
) -> None:
    if BACKEND.unavailable():
        pytest.skip(str(BACKEND.unavailable()))
    small = one_level()
    taps = self_attention_taps(small.module)
    engine, eager = BACKEND.open(small, taps, cache, 1), TorchEager(small, taps)
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for timestep in (1.0, 500.0):
        latents = torch.randn(2, 4, 8, 8, generator=generator)
        text = Conditioning({"text": torch.randn(2, 5, 8, generator=generator)})
        pairs.append((engine(latents, timestep, text), eager(latents, timestep, text)))
    for actual, expected in pairs:
        assert list(actual.taps) == list(expected.taps)
        torch.testing.assert_close(actual.noise, expected.noise, rtol=1e-4, atol=1e-5)
        for name, tap in expected.taps.items():
            torch.testing.assert_close(actual.taps[name], tap, rtol=1e-4, atol=1e-5)
    assert not any(module._forward_hooks for module in small.module.modules())


def test_without_a_compiler_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert "install g++" in str(BACKEND.unavailable())
