"""The tests' type checker refuses what beartype refuses, and builds each check once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped

from probes.eigenbasis import Eigenbasis, decompose
from tests import typecheck
from tests.typecheck import checked

Rows = Float[np.ndarray, "rows 2"]


def made(factor: float) -> Callable[[np.ndarray, int], np.ndarray]:
    @jaxtyped(typechecker=checked)
    def times(values: Rows, rows: int) -> Rows:
        return factor * values[:rows]

    return times


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_every_function_made_is_checked_and_is_its_own(factor: float) -> None:
    times = made(factor)
    assert times(np.ones((3, 2)), 3).sum() == 6 * factor
    with pytest.raises(TypeCheckError, match="parameters of"):
        times(np.ones((3, 3)), 3)
    with pytest.raises(TypeCheckError, match="return value"):
        times(np.ones((3, 2)), 2)


def test_functions_of_another_signature_have_a_check_of_their_own() -> None:
    @jaxtyped(typechecker=checked)
    def times(values: Float[np.ndarray, "rows 3"]) -> Float[np.ndarray, "rows 3"]:
        return values

    assert times(np.ones((1, 3))).shape == (1, 3)
    with pytest.raises(TypeCheckError):
        times(np.ones((1, 2)))


def test_a_check_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made(1.0)

    def refuse(_: object) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(typecheck, "beartype", refuse)
    assert made(3.0)(np.ones((1, 2)), 1).sum() == 6


def without(rows: int, of: Callable[[str], bool]) -> dict[str, int]:
    return {"rows": rows} if of("") else {}


def by_name(values: dict[str, Rows]) -> int:
    return len(values)


class Holder:
    count: int

    @property
    def rows(self) -> Rows:
        return np.ones((self.count, 2))

    @staticmethod
    def of(count: int) -> Holder:
        raise NotImplementedError

    @classmethod
    def taken(cls, rows: list[Float[np.ndarray, "rows 2"]]) -> Holder:
        raise NotImplementedError


def test_only_what_has_arrays_is_checked() -> None:
    of_holder = vars(Holder)
    for decorated in (without, Holder, of_holder["of"]):
        assert not typecheck.has_arrays(decorated)
    for decorated in (by_name, made(1.0), of_holder["rows"], of_holder["taken"], Eigenbasis):
        assert typecheck.has_arrays(decorated)


@pytest.mark.skipif(not typecheck.CHECKS_SHAPES, reason="checks are turned off")
def test_the_packages_functions_methods_and_records_are_checked() -> None:
    with pytest.raises(TypeCheckError, match="decompose"):
        decompose(torch.ones(2, 3))
    with pytest.raises(TypeCheckError, match="Eigenbasis"):
        Eigenbasis(torch.ones(3), torch.ones(3))
