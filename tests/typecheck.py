"""The tests' import hook: jaxtyping with beartype, for what has arrays, with each check built once.

jaxtyping decorates every function, also one within a function whenever the outer one is called, and
passes a generated function of the same signature to the type checker. Building a check takes
milliseconds, and a call of a checked function a tenth of one. Types without shapes are mypy's.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Hashable, Mapping
from typing import Any, get_args

import jaxtyping
from beartype import beartype
from jaxtyping import AbstractArray, AbstractDtype, install_import_hook

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


def install_hook(packages: list[str]) -> None:
    """Check the shapes of the arrays that functions and classes of these packages are given."""
    # The hook's decorators look it up by this name.
    jaxtyping.jaxtyped = _jaxtyped_arrays
    install_import_hook(packages, f"{__name__}.checked")


_EVERYTHING = jaxtyping.jaxtyped


def _jaxtyped_arrays(**options: Any) -> Callable[[Any], Any]:
    decorate = _EVERYTHING(**options)
    return lambda decorated: decorate(decorated) if has_arrays(decorated) else decorated


def has_arrays(decorated: Any) -> bool:
    """Whether an annotation of a function, a method, a property or a class has a shape."""
    decorated = getattr(decorated, "__func__", decorated)
    if isinstance(decorated, property):
        return any(map(has_arrays, (decorated.fget, decorated.fset)))
    names = vars(sys.modules[decorated.__module__]) if decorated else {}
    return any(
        _is_of_arrays(annotation, names)
        for annotation in getattr(decorated, "__annotations__", {}).values()
    )


def _is_of_arrays(annotation: Any, names: Mapping[str, Any]) -> bool:
    if isinstance(annotation, str):
        named = (names.get(word) for word in re.findall(r"\w+", annotation))
        return any(_is_of_arrays(value, names) for value in named if not isinstance(value, str))
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray | AbstractDtype):
        return True
    return any(_is_of_arrays(part, names) for part in get_args(annotation))
