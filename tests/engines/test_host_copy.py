from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from engines import host_copy as host_copy_module
from engines.errors import EngineError
from engines.host_copy import (
    Copier,
    CpuCopier,
    PycudaCopier,
    TorchCopier,
    copier_of,
    to_host,
)


class LateStream:
    """A stream that does nothing until it is waited for."""

    handle = 1234

    def __init__(self) -> None:
        self.work: list[Callable[[], None]] = []
        self.waits = 0

    def wait_stream(self, _other: object) -> None:
        self.waits += 1

    def finish(self) -> None:
        while self.work:
            self.work.pop(0)()


def fake_pycuda(patch: pytest.MonkeyPatch) -> Copier:
    """pycuda on the CPU: it copies by address, and late."""
    stream = LateStream()

    class Event:
        def record(self, on: LateStream) -> None:
            assert on is stream

        def synchronize(self) -> None:
            stream.finish()

    def late(target: Any, address: int, on: LateStream) -> None:
        assert on is stream
        assert stream.waits
        stream.work.append(
            lambda: ctypes.memmove(target.ctypes.data, address, target.nbytes) and None
        )

    contexts: list[object] = []

    def inside(function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``function`` to require a current context, as pycuda does."""

        def call(*arguments: Any) -> Any:
            assert contexts == [context]
            return function(*arguments)

        return call

    context = SimpleNamespace(push=lambda: contexts.append(context), pop=contexts.pop)

    def device(number: int) -> SimpleNamespace:
        assert number == 3
        return SimpleNamespace(retain_primary_context=lambda: context)

    driver = SimpleNamespace(
        init=lambda: None,
        Device=device,
        Stream=inside(lambda: stream),
        Event=inside(Event),
        pagelocked_empty=inside(lambda size, kind: np.zeros(size, kind)),
        memcpy_dtoh_async=inside(late),
    )
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    for name, module in (("pycuda", package), ("pycuda.driver", driver)):
        patch.setitem(sys.modules, name, module)
    patch.setattr(torch.cuda, "current_stream", lambda device: device)

    def adopted(handle: int, device: torch.device) -> LateStream:
        assert (handle, device.index) == (LateStream.handle, 3)
        return stream

    patch.setattr(torch.cuda, "ExternalStream", adopted)
    patch.setattr(
        Tensor,
        "record_stream",
        lambda self, _stream: stream.work.append(lambda: self.numel() and None),
    )
    return PycudaCopier(torch.device("cuda", 3))


KINDS = [
    "cpu",
    "fake_pycuda",
    pytest.param("torch", marks=pytest.mark.gpu),
    pytest.param("pycuda", marks=pytest.mark.gpu),
]
Draw = Callable[..., dict[str, Tensor]]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "pycuda":
        pytest.importorskip("pycuda.driver")
    return name


@pytest.fixture
def copier(kind: str, monkeypatch: pytest.MonkeyPatch) -> Copier:
    makers: dict[str, Callable[[], Copier]] = {
        "cpu": CpuCopier,
        "fake_pycuda": lambda: fake_pycuda(monkeypatch),
        "torch": lambda: TorchCopier(torch.device("cuda", torch.cuda.current_device())),
        "pycuda": lambda: PycudaCopier(torch.device("cuda", torch.cuda.current_device())),
    }
    return makers[kind]()


@pytest.fixture
def draw(kind: str) -> Draw:
    """Draws tensors on the device that the copier copies from.

    The stand-in reads addresses of the CPU, also on a machine with a card.
    """
    device = "cuda" if kind in ("torch", "pycuda") else "cpu"

    def tensors(seed: int, rows: int = 3) -> dict[str, Tensor]:
        wide = torch.randn(rows, 7, 6, generator=torch.Generator().manual_seed(seed))
        return {
            "down0.0": wide.to(device),
            "half": wide.to(device, torch.bfloat16),
            "strided": wide.to(device).transpose(1, 2),
        }

    return tensors


def assert_same(copies: dict[str, Tensor], sources: dict[str, Tensor]) -> None:
    assert copies.keys() == sources.keys()
    for name, value in sources.items():
        assert copies[name].device.type == "cpu"
        assert copies[name].dtype == value.dtype
        assert torch.equal(copies[name], value.cpu())


def copied(copier: Copier, sources: dict[str, Tensor]) -> dict[str, Tensor]:
    targets = {name: copier.host(value) for name, value in sources.items()}
    for name, value in sources.items():
        copier.copy(value, targets[name])
    copier.mark()()
    return targets


def test_copies_equal_their_sources(copier: Copier, draw: Draw) -> None:
    for seed in range(3):
        assert_same(copied(copier, draw(seed)), draw(seed))


def test_many_copies_wait_once(copier: Copier, draw: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    mark = copier.mark

    def counted() -> Callable[[], None]:
        wait = mark()

        def waiting() -> None:
            waits.append("wait")
            wait()

        return waiting

    monkeypatch.setattr(copier, "mark", counted)
    monkeypatch.setattr(host_copy_module, "copier_of", lambda device: copier)
    monkeypatch.setattr(host_copy_module, "_is_here", lambda value: value.dtype == torch.int64)
    here = torch.arange(3)
    actual = to_host({**draw(3), "here": here})
    assert actual.pop("here") is here
    assert_same(actual, draw(3))
    assert waits == ["wait"]


def test_a_pycuda_that_cannot_be_loaded_is_refused_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_device: torch.device) -> Copier:
        raise ImportError("libcuda.so.1: no such file")

    monkeypatch.setattr(host_copy_module, "find_spec", lambda name: name)
    monkeypatch.setattr(host_copy_module, "PycudaCopier", broken)
    with pytest.raises(EngineError, match=r"pycuda cannot be loaded \(libcuda\.so\.1.*uninstall"):
        copier_of(torch.device("cuda", 5))


def test_every_card_has_its_copier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_copy_module, "find_spec", lambda _name: None)
    copier_of.cache_clear()
    card = copier_of(torch.device("cuda", 1))
    assert isinstance(card, TorchCopier)
    assert card.device == torch.device("cuda", 1)
    assert card is copier_of(torch.device("cuda", 1))
    assert card is not copier_of(torch.device("cuda", 0))
    assert isinstance(copier_of(torch.device("cpu")), CpuCopier)
    copier_of.cache_clear()


def test_the_source_may_be_freed_before_the_copy_is_over(copier: Copier, draw: Draw) -> None:
    targets = {name: copier.host(value) for name, value in draw(4).items()}
    for name, value in draw(4).items():
        copier.copy(value, targets[name])
    wait = copier.mark()
    torch.full((4096,), 7.0)
    wait()
    assert_same(targets, draw(4))
