"""The type checker of the tests' import hook: beartype, which builds each check once.

jaxtyping decorates a function within a function whenever the outer one is called, and passes a
generated function of the same signature to the type checker. Building a check takes milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from typing import Any

from beartype import beartype

VARIABLE = "SHAPE_CHECKS"
"""0 in the environment turns the checks off, which the compiler of PyTorch cannot trace."""
CHECKS_SHAPES = os.environ.get(VARIABLE) != "0"

_GENERATED = "<string>"
"""The file name of the code that jaxtyping generates."""
_CHECKS: dict[Hashable, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its types checked; that of an equal generated one if there is one.

    What jaxtyping generates depends on its signature only: it returns the value that it is given.
    """
    code = getattr(function, "__code__", None)
    if code is None or code.co_filename != _GENERATED:
        return beartype(function)
    signature = (
        function.__module__,
        function.__qualname__,
        tuple(function.__annotations__.items()),
        code.co_varnames,
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_flags,
        code.co_code,
    )
    try:
        if signature not in _CHECKS:
            _CHECKS[signature] = beartype(function)
        return _CHECKS[signature]
    except TypeError:
        # An annotation that has no hash.
        return beartype(function)
