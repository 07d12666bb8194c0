"""Moments: merging, batches, and storage as triangles."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.moments import Moments, copied, merged, moments_of, pack, total, unpack


def offset_rows(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Rows whose columns correlate, each with a mean ten times its spread."""
    scale = 10.0 ** rng.uniform(-2, 2, d)
    return (rng.normal(size=(n, d)) @ (np.eye(d) + 0.3 * rng.normal(size=(d, d))) + 10) * scale


def assert_moments(actual: Moments, rows: np.ndarray) -> None:
    centred = rows - rows.mean(0)
    scatter = centred.T @ centred
    spread = np.sqrt(np.outer(scatter.diagonal(), scatter.diagonal()))
    assert actual.n == len(rows)
    np.testing.assert_allclose(actual.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_array_less(np.abs(actual.scatter.numpy() - scatter), 1e-10 * spread)


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
    for union in (total([a, b, c]), total([a, total([b, c])]), total([c, a, b])):
        assert_moments(union, rows)


def test_float32_rows_are_summed_in_float64() -> None:
    rows = offset_rows(np.random.default_rng(1), 5000, 4).astype(np.float32)
    parts = [moments_of(part) for part in torch.from_numpy(rows).split(700)]
    assert_moments(total(parts), rows.astype(np.float64))


def test_leading_axes_are_separate_sets() -> None:
    rng = np.random.default_rng(2)
    first, second = (np.stack([offset_rows(rng, n, 3) for _ in range(4)]) for n in (50, 70))
    both = merged(moments_of(torch.from_numpy(first)), moments_of(torch.from_numpy(second)))
    for at in range(4):
        assert_moments(both[at], np.concatenate([first[at], second[at]]))


def test_adding_no_rows_changes_nothing() -> None:
    some = moments_of(torch.from_numpy(offset_rows(np.random.default_rng(3), 20, 3)))
    nothing = Moments(
        0, torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    )
    sums = (merged(copied(some), nothing), merged(copied(nothing), some))
    for union in sums:
        assert union.n == some.n
        torch.testing.assert_close(union.mean, some.mean, rtol=1e-15, atol=0)
        torch.testing.assert_close(union.scatter, some.scatter, rtol=1e-15, atol=0)
    assert merged(copied(nothing), nothing).n == 0


@pytest.mark.parametrize("batch", [(), (4,)], ids=str)
def test_merging_in_place_takes_the_memory_of_the_first_and_leaves_the_second(
    batch: tuple[int, ...],
) -> None:
    rng = np.random.default_rng(5)
    first, second = (
        np.concatenate([offset_rows(rng, n, 3) for _ in range(4)]).reshape(4, n, 3)[
            : 4 if batch else 1
        ]
        for n in (50, 70)
    )
    first, second = (rows if batch else rows[0] for rows in (first, second))
    into, other = moments_of(torch.from_numpy(first)), moments_of(torch.from_numpy(second))
    kept, memory = copied(other), (into.mean.data_ptr(), into.scatter.data_ptr())
    union = merged(into, other)
    assert (union.mean.data_ptr(), union.scatter.data_ptr()) == memory
    assert other.n == kept.n
    assert torch.equal(other.mean, kept.mean)
    assert torch.equal(other.scatter, kept.scatter)
    for at in range(4) if batch else [...]:
        actual = union[at] if batch else union
        assert_moments(actual, np.concatenate([first[at], second[at]]))


def test_a_copy_shares_no_memory() -> None:
    some = moments_of(torch.from_numpy(offset_rows(np.random.default_rng(6), 20, 3)))
    mean, scatter = some.mean.numpy().copy(), some.scatter.numpy().copy()
    copy = copied(some)
    copy.mean.zero_()
    copy.scatter.zero_()
    assert copy.n == 20
    assert np.array_equal(some.mean, mean)
    assert np.array_equal(some.scatter, scatter)


def test_a_total_leaves_its_parts_as_they_are() -> None:
    rows = offset_rows(np.random.default_rng(7), 60, 4)
    parts = [moments_of(torch.from_numpy(part)) for part in np.split(rows, [10, 30])]
    before = [copied(part) for part in parts]
    for _ in range(2):
        assert_moments(total(parts), rows)
    for part, kept in zip(parts, before, strict=True):
        assert torch.equal(part.mean, kept.mean)
        assert torch.equal(part.scatter, kept.scatter)


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
