"""Batches of engine calls, joined on the CPU from any device."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.conditioning import Conditioning
from engines.engine import Prediction
from engines.errors import EngineError
from engines.host_copy import Ring
from extract.trajectory import in_batches


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_batches_are_small_enough_and_joined_in_order(rows: int, batch: int) -> None:
    sizes: list[int] = []

    def engine(latents: Tensor, timestep: float, words: Conditioning) -> Prediction:
        sizes.append(len(latents))
        assert timestep == 7.0
        return Prediction(latents * 2, {"up3.0": words["text"] + 1, "mid.0": latents.flatten(2)})

    latents, text = (
        torch.arange(rows * 4.0).view(rows, 1, 2, 2),
        torch.arange(rows * 6.0).view(rows, 2, 3),
    )
    whole = in_batches(engine, latents, 7.0, Conditioning({"text": text}), batch)
    assert max(sizes) <= batch
    assert sum(sizes) == rows
    assert torch.equal(whole.noise, latents * 2)
    assert list(whole.taps) == ["up3.0", "mid.0"]
    assert torch.equal(whole.taps["up3.0"], text + 1)
    assert torch.equal(whole.taps["mid.0"], latents.flatten(2))


class LateCopier:
    """Stand-in for a device: its tensors are readable only by copies, which run on waiting."""

    def __init__(self) -> None:
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}
        self.queue: list[Callable[[], object]] = []
        self.log: list[str] = []

    def create(self, value: Tensor) -> Tensor:
        on_device = torch.empty(value.shape, dtype=value.dtype, device="meta")
        self.memory[id(on_device)] = (on_device, value)
        return on_device

    def host(self, like: Tensor) -> Tensor:
        return torch.full(like.shape, float("nan"), dtype=like.dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        _, value = self.memory[id(source)]
        self.queue.append(lambda: target.copy_(value))

    def mark(self) -> Callable[[], None]:
        self.log.append("put")
        queue, self.queue = self.queue, []

        def wait() -> None:
            self.log.append("wait")
            for copy in queue:
                copy()

        return wait


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_results_on_a_device_arrive_complete_on_the_cpu_in_fp32(rows: int, batch: int) -> None:
    copier = LateCopier()
    ring = Ring(copier, 2)

    def engine(latents: Tensor, _timestep: float, words: Conditioning) -> Prediction:
        copier.log.append("call")
        taps = {
            "up3.0": copier.create((words["text"] + 1).half()),
            "mid.0": copier.create(latents.flatten(2)),
        }
        return Prediction(copier.create((latents * 2).half()), taps)

    latents, text = (
        torch.arange(rows * 4.0).view(rows, 1, 2, 2),
        torch.arange(rows * 6.0).view(rows, 2, 3),
    )
    calls = [(latents + offset, text + offset) for offset in (0.0, 1000.0)]
    results = [
        in_batches(
            engine, call[0], 7.0, Conditioning({"text": call[1]}), batch, lambda _device: ring
        )
        for call in calls
    ]
    for (latents, text), whole in zip(calls, results, strict=True):
        expected = {"noise": latents * 2, "up3.0": text + 1, "mid.0": latents.flatten(2)}
        actual = {"noise": whole.noise, **whole.taps}
        assert list(actual) == list(expected)
        for name, value in actual.items():
            assert value.device.type == "cpu"
            assert value.dtype == torch.float32
            assert torch.equal(value, expected[name])
    batches = -(-rows // batch)
    # Each copy is awaited once, after the engine was called with the next batch.
    assert copier.log[: 3 * batches] == [
        "call",
        "put",
        *["call", "put", "wait"] * (batches - 1),
        "wait",
    ]


def test_a_failing_engine_leaves_the_ring_usable() -> None:
    copier = LateCopier()
    ring = Ring(copier, 2)
    rows_of_calls: list[int] = []

    def engine(latents: Tensor, _timestep: float, _words: Conditioning) -> Prediction:
        rows_of_calls.append(len(latents))
        if len(rows_of_calls) == 2:
            raise EngineError("the call failed")
        return Prediction(copier.create(latents), {})

    latents, text = torch.randn(5, 1, 2, 2), Conditioning({"text": torch.zeros(5, 2, 3)})
    with pytest.raises(EngineError, match="the call failed"):
        in_batches(engine, latents, 7.0, text, 2, lambda _device: ring)
    again = in_batches(engine, latents, 7.0, text, 2, lambda _device: ring)
    assert torch.equal(again.noise, latents)


def test_one_batch_on_the_cpu_is_not_copied() -> None:
    prediction = Prediction(torch.randn(2, 1, 2, 2), {"mid.0": torch.randn(2, 4, 3)})
    latents, text = torch.zeros(2, 1, 2, 2), Conditioning({"text": torch.zeros(2, 2, 3)})
    actual = in_batches(lambda *_: prediction, latents, 7.0, text, 2)
    assert actual.noise.data_ptr() == prediction.noise.data_ptr()
    assert actual.taps["mid.0"].data_ptr() == prediction.taps["mid.0"].data_ptr()
