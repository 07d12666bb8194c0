"""Batches of engine calls, joined on the device of their results."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from engines.conditioning import Conditioning
from engines.engine import Prediction
from extract.trajectory import in_batches
from tests.card import Card


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


@given(rows=st.integers(1, 20), batch=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_results_stay_on_their_device_and_in_their_precision(rows: int, batch: int) -> None:
    latents, text = (
        torch.arange(rows * 4.0).view(rows, 1, 2, 2),
        torch.arange(rows * 6.0).view(rows, 2, 3),
    )
    with Card() as card:

        def engine(latents: Tensor, _timestep: float, words: Conditioning) -> Prediction:
            taps = {"up3.0": (words["text"] + 1).half(), "mid.0": latents.flatten(2)}
            return Prediction((latents * 2).half(), taps)

        there = Conditioning({"text": text}).to(card.device)
        whole = in_batches(engine, latents.to(card.device), 7.0, there, batch)
        assert card.bytes_to_host == 0
        assert {value.device for value in (whole.noise, *whole.taps.values())} == {card.device}
        assert [value.dtype for value in (whole.noise, *whole.taps.values())] == [
            torch.float32,
            torch.float16,
            torch.float32,
        ]
        here = whole.cpu()
    expected = {"noise": latents * 2, "up3.0": text + 1, "mid.0": latents.flatten(2)}
    actual = {"noise": here.noise, **here.taps}
    assert list(actual) == list(expected)
    for name, value in actual.items():
        assert type(value) is torch.Tensor
        assert value.dtype == torch.float32
        assert torch.equal(value, expected[name])


def test_one_batch_on_the_cpu_is_not_copied() -> None:
    prediction = Prediction(torch.randn(2, 1, 2, 2), {"mid.0": torch.randn(2, 4, 3)})
    latents, text = torch.zeros(2, 1, 2, 2), Conditioning({"text": torch.zeros(2, 2, 3)})
    actual = in_batches(lambda *_: prediction, latents, 7.0, text, 2)
    assert actual.noise.data_ptr() == prediction.noise.data_ptr()
    assert actual.taps["mid.0"].data_ptr() == prediction.taps["mid.0"].data_ptr()
