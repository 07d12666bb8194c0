"""Batches of engine calls, joined on the CPU wherever they were computed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.engine import Prediction
from engines.errors import EngineError
from engines.host_copy import Ring
from extract.trajectory import in_batches


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_batches_are_small_enough_and_joined_in_order(rows: int, batch: int) -> None:
    sizes: list[int] = []

    def engine(latents: Tensor, timestep: float, text: Tensor) -> Prediction:
        sizes.append(len(latents))
        assert timestep == 7.0
        return Prediction(latents * 2, {"up3.0": text + 1, "mid.0": latents.flatten(2)})

    latents, text = (
        torch.arange(rows * 4.0).view(rows, 1, 2, 2),
        torch.arange(rows * 6.0).view(rows, 2, 3),
    )
    whole = in_batches(engine, latents, 7.0, text, batch)
    assert max(sizes) <= batch
    assert sum(sizes) == rows
    assert torch.equal(whole.noise, latents * 2)
    assert list(whole.taps) == ["up3.0", "mid.0"]
    assert torch.equal(whole.taps["up3.0"], text + 1)
    assert torch.equal(whole.taps["mid.0"], latents.flatten(2))


class LateCopier:
    """Copies from a device whose tensors only it can read, and not before it is waited for."""

    def __init__(self) -> None:
        self.memory: dict[int, tuple[Tensor, Tensor]] = {}
        self.queue: list[Callable[[], object]] = []
        self.log: list[str] = []

    def born(self, value: Tensor) -> Tensor:
        there = torch.empty(value.shape, dtype=value.dtype, device="meta")
        self.memory[id(there)] = (there, value)
        return there

    def host(self, like: Tensor) -> Tensor:
        return torch.full(like.shape, float("nan"), dtype=like.dtype)

    def copy(self, source: Tensor, target: Tensor) -> None:
        _, value = self.memory[id(source)]
        self.queue.append(lambda: target.copy_(value))

    def mark(self) -> Callable[[], None]:
        self.log.append("put")
        mine, self.queue = self.queue, []

        def wait() -> None:
            self.log.append("wait")
            for work in mine:
                work()

        return wait


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_what_is_born_on_a_device_arrives_on_the_cpu_whole_and_in_fp32(
    rows: int, batch: int
) -> None:
    copier = LateCopier()
    ring = Ring(copier, 2)

    def engine(latents: Tensor, _timestep: float, text: Tensor) -> Prediction:
        copier.log.append("call")
        taps = {"up3.0": copier.born((text + 1).half()), "mid.0": copier.born(latents.flatten(2))}
        return Prediction(copier.born((latents * 2).half()), taps)

    latents, text = (
        torch.arange(rows * 4.0).view(rows, 1, 2, 2),
        torch.arange(rows * 6.0).view(rows, 2, 3),
    )
    kept = []
    for offset in (0.0, 1000.0):
        found = in_batches(
            engine, latents + offset, 7.0, text + offset, batch, lambda _device: ring
        )
        kept.append((found, latents + offset, text + offset))
    for whole, given_latents, given_text in kept:
        expected = {
            "noise": given_latents * 2,
            "up3.0": given_text + 1,
            "mid.0": given_latents.flatten(2),
        }
        arrived = {"noise": whole.noise, **whole.taps}
        assert list(arrived) == list(expected)
        for name, value in arrived.items():
            assert value.device.type == "cpu"
            assert value.dtype == torch.float32
            assert torch.equal(value, expected[name])
    calls = -(-rows // batch)
    # Each copy is waited for once, and only when the engine has been given the batch after it.
    assert copier.log[: 3 * calls] == [
        "call",
        "put",
        *["call", "put", "wait"] * (calls - 1),
        "wait",
    ]


def test_an_engine_that_fails_leaves_its_devices_ring_to_others() -> None:
    copier = LateCopier()
    ring = Ring(copier, 2)
    given_rows: list[int] = []

    def engine(latents: Tensor, _timestep: float, _text: Tensor) -> Prediction:
        given_rows.append(len(latents))
        if len(given_rows) == 2:
            raise EngineError("out of luck")
        return Prediction(copier.born(latents), {})

    latents, text = torch.randn(5, 1, 2, 2), torch.zeros(5, 2, 3)
    with pytest.raises(EngineError, match="out of luck"):
        in_batches(engine, latents, 7.0, text, 2, lambda _device: ring)
    again = in_batches(engine, latents, 7.0, text, 2, lambda _device: ring)
    assert torch.equal(again.noise, latents)


def test_what_the_cpu_computes_in_one_batch_is_not_copied() -> None:
    made = Prediction(torch.randn(2, 1, 2, 2), {"mid.0": torch.randn(2, 4, 3)})
    found = in_batches(lambda *_given: made, torch.zeros(2, 1, 2, 2), 7.0, torch.zeros(2, 2, 3), 2)
    assert found.noise.data_ptr() == made.noise.data_ptr()
    assert found.taps["mid.0"].data_ptr() == made.taps["mid.0"].data_ptr()
