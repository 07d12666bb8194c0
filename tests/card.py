"""A stand-in for a card: torch's device ``meta``, with tensors that compute on the CPU.

Inside ``with Card() as card:`` tensors on ``card.device`` keep their values, operations give the
CPU's results, and an operation that mixes devices fails as on a card. Copies between the two and
waits are counted. This tests where code computes without a card, but not a card's own libraries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

CARD = torch.device("meta")


class MixedDevicesError(RuntimeError):
    """An operation has tensors of two devices."""


class OnCard(torch.Tensor):
    """A tensor of the stand-in, which wraps a tensor of the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCard:
        wrapper: OnCard = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=CARD,
            requires_grad=False,
        )
        wrapper.inner = inner
        return wrapper

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.inner!r})"

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(operation, args, kwargs or {})


class Counts:
    """What the operations of a stand-in have cost so far."""

    def __init__(self) -> None:
        self.operations = 0
        self.bytes_to_host = 0
        self.bytes_to_card = 0
        self.waits = 0
        """Operations after which the CPU has waited for the card: for a value, or for a copy."""

    def add(self, operation: Any, args: Any, kwargs: Any) -> None:
        """Count one operation."""
        self.operations += 1
        name = operation.overloadpacket.__name__
        read = _leaves(args, kwargs, OnCard)
        on_cpu = [x for x in _leaves(args, kwargs, Tensor) if not isinstance(x, OnCard) and x.dim()]
        late = kwargs.get("non_blocking", len(args) > 2 and args[2] is True)
        devices = _leaves(args, kwargs, torch.device)
        if name in _READING or (name in _INDEXING and _has_mask(args)):
            self.waits += 1
        if read and (
            (devices and CARD not in devices)
            or (name == "copy_" and on_cpu and args[0] is on_cpu[0])
        ):
            source = read[0]
            self.bytes_to_host += source.numel() * source.element_size()
            self.waits += not late
        elif on_cpu and (CARD in devices or name == "copy_" or name in _INDEXING):
            self.bytes_to_card += sum(x.numel() * x.element_size() for x in on_cpu)
            self.waits += not late


class Card(TorchDispatchMode):
    """A context in which tensors can be moved to the stand-in, and that counts its work."""

    device = CARD
    Mixed = MixedDevicesError

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counts()

    @property
    def operations(self) -> int:
        """Operations so far."""
        return self.counts.operations

    @property
    def bytes_to_host(self) -> int:
        """Bytes that were copied to the CPU so far."""
        return self.counts.bytes_to_host

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_cards(args, kwargs):
            return operation(*args, **kwargs)
        self.counts.add(operation, args, kwargs)
        return _computed(operation, args, kwargs)


def _leaves(args: Any, kwargs: Any, kind: type | tuple[type, ...]) -> list[Any]:
    leaves = []
    # An operation's lists hold no lists.
    for value in (*args, *kwargs.values()):
        if type(value) in (list, tuple):
            leaves += [leaf for leaf in value if isinstance(leaf, kind)]
        elif isinstance(value, kind):
            leaves.append(value)
    return leaves


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to a value, or to every value of a list or tuple."""
    if type(value) in (list, tuple):
        return type(value)(function(leaf) for leaf in value)
    return function(value)


def _is_cards(args: Any, kwargs: Any) -> bool:
    """Whether an operation reads from the stand-in or puts its result there."""
    found = _leaves(args, kwargs, (OnCard, torch.device))
    return any(type(leaf) is OnCard or leaf == CARD for leaf in found)


def _computed(operation: Any, args: Any, kwargs: Any) -> Any:
    devices, read = _leaves(args, kwargs, torch.device), _leaves(args, kwargs, OnCard)
    if read and not devices:
        _refuse_mixed(operation, args, kwargs)
    if "out" in kwargs:
        raise NotImplementedError(f"{operation} writes to an argument")
    inner_args = [_mapped(_inner, value) for value in args]
    inner_kwargs = {name: _mapped(_inner, value) for name, value in kwargs.items()}
    # torch refuses views across the border of inference mode.
    with torch.inference_mode(False), torch.no_grad():
        result = operation(*inner_args, **inner_kwargs)
        if operation._schema.is_mutable and not isinstance(result, tuple):
            return args[0]
        return result if devices and CARD not in devices else _mapped(_outer, result)


def _has_mask(args: Any) -> bool:
    return any(
        isinstance(index, Tensor) and index.dtype == torch.bool
        for index in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
    )


def _outer(value: Any) -> Any:
    return OnCard(value) if isinstance(value, Tensor) else value


def _inner(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inner if isinstance(value, OnCard) else value


_READING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")
"""Operations whose result the CPU reads, or whose result's shape depends on values."""
_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


def _refuse_mixed(operation: Any, args: Any, kwargs: Any) -> None:
    name = operation.overloadpacket.__name__
    if name in _INDEXING:
        # A card accepts indices on the CPU, and copies them.
        args = (args[0], *args[2:])
    # Scalars on the CPU work with any device, and a copy may cross devices.
    on_cpu = [
        tensor
        for tensor in _leaves(args, kwargs, Tensor)
        if tensor.dim() and not isinstance(tensor, OnCard)
    ]
    if on_cpu and name != "copy_":
        raise MixedDevicesError(f"{operation} has tensors of the card and of the CPU")
