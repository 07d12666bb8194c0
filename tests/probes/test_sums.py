import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.sums import Moments, moments_of, pack, total, unpack


def offset_rows(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Rows whose columns correlate, each with a mean ten times its spread."""
    scale = 10.0 ** rng.uniform(-2, 2, d)
    return (rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d))) + 10) * scale


def assert_moments(found: Moments, rows: np.ndarray) -> None:
    centred = rows - rows.mean(0)
    scatter = centred.T @ centred
    spread = np.sqrt(np.outer(scatter.diagonal(), scatter.diagonal()))
    assert found.n == len(rows)
    np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_array_less(np.abs(found.scatter.numpy() - scatter), 1e-10 * spread)


@given(st.integers(0, 2**32), st.lists(st.integers(1, 400), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_streamed_moments_equal_those_of_the_whole_array(seed: int, sizes: list[int]) -> None:
    rng = np.random.default_rng(seed)
    rows = offset_rows(rng, sum(sizes) + 1, 6)
    parts = [moments_of(torch.from_numpy(part)) for part in np.split(rows, np.cumsum(sizes))]
    assert_moments(total(parts), rows)


def test_any_way_of_merging_gives_the_same_moments() -> None:
    rng = np.random.default_rng(0)
    rows = offset_rows(rng, 900, 5)
    a, b, c = (moments_of(torch.from_numpy(part)) for part in np.split(rows, [100, 103]))
    for merged in ((a + b) + c, a + (b + c), (c + a) + b):
        assert_moments(merged, rows)


def test_float32_rows_are_summed_in_float64() -> None:
    rows = offset_rows(np.random.default_rng(1), 5000, 4).astype(np.float32)
    parts = [moments_of(part) for part in torch.from_numpy(rows).split(700)]
    assert_moments(total(parts), rows.astype(np.float64))


def test_leading_axes_are_separate_sets() -> None:
    rng = np.random.default_rng(2)
    first, second = (np.stack([offset_rows(rng, n, 3) for _ in range(4)]) for n in (50, 70))
    merged = moments_of(torch.from_numpy(first)) + moments_of(torch.from_numpy(second))
    for at in range(4):
        assert_moments(merged[at], np.concatenate([first[at], second[at]]))


def test_adding_no_rows_changes_nothing() -> None:
    some = moments_of(torch.from_numpy(offset_rows(np.random.default_rng(3), 20, 3)))
    nothing = Moments(0, torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64))
    for merged in (some + nothing, nothing + some):
        assert merged.n == some.n
        torch.testing.assert_close(merged.mean, some.mean, rtol=1e-15, atol=0)
        torch.testing.assert_close(merged.scatter, some.scatter, rtol=1e-15, atol=0)
    assert (nothing + nothing).n == 0


@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (2, 3, 4, 4)])
def test_packing_loses_nothing(shape: tuple[int, ...]) -> None:
    values = torch.from_numpy(np.random.default_rng(4).normal(size=shape))
    symmetric = values + values.mT
    d = shape[-1]
    packed = pack(symmetric)
    assert packed.shape == (*shape[:-2], d * (d + 1) // 2)
    assert torch.equal(unpack(packed, d), symmetric)
    rows, columns = np.triu_indices(d)
    assert np.array_equal(packed, symmetric.numpy()[..., rows, columns])
