"""A run for which memory does not suffice ends with a sentence."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

import bench.commands.list as command
from bench.__main__ import main


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB"), "the GPU has"),
        (MemoryError("Unable to allocate 9.00 GiB"), "this machine has"),
    ],
)
def test_too_little_memory_is_one_sentence_with_advice(
    error: Exception,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(_options: object) -> int:
        raise error

    monkeypatch.setattr(command, "command", fail)
    assert main(["list"]) == 2
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"bench: {what} too little free memory (")
    assert str(error) in said
    assert "lower --batch" in said


def test_torch_says_that_the_machines_memory_is_used_up() -> None:
    """The words by which the error of torch's allocator on the CPU is known."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

    lines = "import torch\ntorch.empty(1 << 36)"
    failed = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, preexec_fn=limited
    )
    assert "DefaultCPUAllocator" in failed.stderr


def test_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_options: object) -> int:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(command, "command", fail)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        main(["list"])
