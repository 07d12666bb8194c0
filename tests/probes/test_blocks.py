"""Block statistics against those of pixels, and ranks against scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import rankdata

from datasets.grid import Grid
from probes.blocks import Blocks, average_ranks, block_means


def blocks_one_by_one(image: np.ndarray, side: int) -> list[np.ndarray]:
    h, w = image.shape[0] // side, image.shape[1] // side
    return [
        image[r * h : (r + 1) * h, c * w : (c + 1) * w] for r in range(side) for c in range(side)
    ]


@pytest.mark.parametrize(
    ("h", "w", "side"), [(8, 8, 2), (6, 6, 6), (4, 12, 4), (9, 6, 3), (5, 5, 1)]
)
def test_block_means_go_row_by_row(h: int, w: int, side: int) -> None:
    maps = np.random.default_rng(0).normal(size=(2, 3, h, w))
    actual = block_means(torch.from_numpy(maps), Grid(side, side))
    for n in range(2):
        for k in range(3):
            expected = [block.mean() for block in blocks_one_by_one(maps[n, k], side)]
            np.testing.assert_allclose(actual[n, k], expected, rtol=1e-12, atol=1e-14)


def test_maps_that_do_not_tile_are_refused() -> None:
    with pytest.raises(ValueError, match="does not tile"):
        block_means(torch.zeros(6, 8), Grid(4, 4))


@given(
    arrays(np.int8, st.tuples(st.integers(1, 4), st.integers(1, 40)), elements=st.integers(-4, 4))
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_ranks_equal_scipy_with_ties(values: np.ndarray) -> None:
    actual = average_ranks(torch.from_numpy(values.astype(np.float64)))
    assert np.array_equal(actual, rankdata(values, axis=-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ranks_equal_scipy_without_ties(dtype: torch.dtype) -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 5, 200))).to(dtype)
    actual = average_ranks(values)
    assert actual.dtype == torch.float64
    assert np.array_equal(actual, rankdata(values.numpy(), axis=-1))


def test_both_zeros_are_one_value() -> None:
    assert average_ranks(torch.tensor([0.0, -0.0, 1.0])).tolist() == [1.5, 1.5, 3.0]


def test_ranks_of_a_strided_tensor_equal_scipy() -> None:
    values = torch.from_numpy(np.random.default_rng(2).integers(0, 5, (6, 4)).astype(np.float64)).mT
    assert np.array_equal(average_ranks(values), rankdata(values.numpy(), axis=-1))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_block_statistics_equal_those_of_pixels(levels: int, offset: float) -> None:
    rng = np.random.default_rng(levels)
    target = rng.integers(0, levels, (2, 2, 8, 12)) / levels * 3 + offset
    blocks = Blocks(torch.from_numpy(target), Grid(4, 4))
    assert blocks.pixels == 6
    for n in range(2):
        for k in range(2):
            channel = target[n, k]
            ranks = rankdata(channel).reshape(channel.shape)
            parts = blocks_one_by_one(channel, 4)
            np.testing.assert_allclose(
                blocks.mean[n, k], [part.mean() for part in parts], rtol=1e-12
            )
            np.testing.assert_allclose(
                blocks.variance[n, k], [part.var() for part in parts], rtol=1e-9, atol=1e-18
            )
            rank_means = [part.mean() for part in blocks_one_by_one(ranks, 4)]
            np.testing.assert_allclose(blocks.rank[n, k], rank_means, rtol=1e-12)
            assert float(blocks.rank_variance[n, k]) == pytest.approx(ranks.var(), rel=1e-12)
            within = np.mean([part.var() for part in parts])
            assert float(blocks.within[n, k]) == pytest.approx(within, rel=1e-9)
