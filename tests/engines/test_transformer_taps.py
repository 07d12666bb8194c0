"""Taps at the same places in every block of a stack."""

from __future__ import annotations

from typing import get_type_hints

import pytest
from torch import nn

from engines.engine import ATTENTION, Tap
from engines.errors import EngineError
from engines.transformer_taps import Place, Stack, stack_taps


def taps_at(place: Place, kind: str = ATTENTION) -> tuple[Tap, ...]:
    module = nn.ModuleDict({"blocks": nn.ModuleList([nn.Identity(), nn.Identity()])})
    return stack_taps(module, [Stack("blocks", "block", {ATTENTION: place})], kind, tokens=4)


def test_a_place_has_the_ports_of_a_tap() -> None:
    assert get_type_hints(Place)["port"] == get_type_hints(Tap)["port"]


def test_every_block_has_a_tap_at_the_port_of_its_place() -> None:
    for place in (Place(), Place(port="output"), Place(port="input")):
        taps = taps_at(place)
        assert [(tap.layer, tap.path) for tap in taps] == [
            ("block0", "blocks.0"),
            ("block1", "blocks.1"),
        ]
        assert {tap.port for tap in taps} == {place.port}


def test_a_kind_without_a_place_is_refused() -> None:
    with pytest.raises(EngineError, match="no taps of text; it has attention"):
        taps_at(Place(), "text")
