"""A stand-in for a card: torch's device ``meta``, whose tensors compute on the CPU here and refuse to meet the CPU's.

Inside ``with Card() as card:`` what is sent to ``card.device`` keeps its numbers, every operation on it gives what the
CPU would, and one that mixes devices fails as it would on a card. So code that says where it computes can be held to
it, and to the CPU's results, without a card. What a card's own libraries do is not proven by it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

CARD = torch.device("meta")


class MixedDevicesError(RuntimeError):
    """Tensors of two devices met in one operation."""


class OnCard(torch.Tensor):
    """A tensor of the stand-in, around the numbers that it holds."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCard:
        made: OnCard = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=CARD,
            requires_grad=False,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnCard({self.inner!r})"

    @classmethod
    def __torch_dispatch__(
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _computed(operation, args, kwargs or {})


class Card(TorchDispatchMode):
    """While it lasts, tensors can be sent to the stand-in; ``operations`` counts what it has computed."""

    device = CARD
    Mixed = MixedDevicesError

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _is_cards(args, kwargs):
            return operation(*args, **kwargs)
        self.operations += 1
        return _computed(operation, args, kwargs)


def _leaves(args: Any, kwargs: Any, kind: type) -> list[Any]:
    found = []
    # An operation's lists hold no lists.
    for value in (*args, *kwargs.values()):
        found += [
            one
            for one in (value if isinstance(value, list | tuple) else (value,))
            if isinstance(one, kind)
        ]
    return found


def _is_cards(args: Any, kwargs: Any) -> bool:
    """Whether an operation makes its result on the stand-in, or reads what lies there."""
    return CARD in _leaves(args, kwargs, torch.device) or bool(_leaves(args, kwargs, OnCard))


def _computed(operation: Any, args: Any, kwargs: Any) -> Any:
    devices, read = _leaves(args, kwargs, torch.device), _leaves(args, kwargs, OnCard)
    if read and not devices:
        _refuse_mixed(operation, args, kwargs)
    if "out" in kwargs:
        raise NotImplementedError(f"{operation} writes to what it was given")
    inner_args, inner_kwargs = tree_map(_inner, (tuple(args), dict(kwargs)))
    # What is made in inference mode is no view of what was not, which torch would then refuse.
    with torch.inference_mode(False), torch.no_grad():
        found = operation(*inner_args, **inner_kwargs)
        if operation._schema.is_mutable and not isinstance(found, tuple):
            return args[0]
        return found if devices and CARD not in devices else tree_map(_outer, found)


def _outer(value: Any) -> Any:
    return OnCard(value) if isinstance(value, Tensor) else value


def _inner(value: Any) -> Any:
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.inner if isinstance(value, OnCard) else value


_INDEXING = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


def _refuse_mixed(operation: Any, args: Any, kwargs: Any) -> None:
    name = operation.overloadpacket.__name__
    if name in _INDEXING:
        # A card takes the CPU's indices, and copies them.
        args = (args[0], *args[2:])
    # A single number of the CPU's may meet any device, and copies are from one to another.
    plain = [
        one for one in _leaves(args, kwargs, Tensor) if one.dim() and not isinstance(one, OnCard)
    ]
    if plain and name != "copy_":
        raise MixedDevicesError(f"{operation} meets tensors of the card and of the CPU")
