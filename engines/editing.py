"""Edit a denoiser's activations while it runs, with temporary forward hooks at the taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.denoiser import Denoiser
    from engines.engine import Tap


@contextmanager
def editing(
    denoiser: Denoiser, taps: Sequence[Tap], edit: Callable[[str, Tensor], Tensor]
) -> Iterator[None]:
    """Replace the activation at every tap by ``edit(layer, activation)`` inside the block.

    Gradients flow through the edits unless the caller disables them.
    """

    def output(tap: Tap) -> Callable[[nn.Module, object, Any], Any]:
        return lambda _module, _inputs, passing: tap.replace(
            passing, edit(tap.layer, tap.read(passing))
        )

    def first_input(tap: Tap) -> Callable[[nn.Module, tuple[Any, ...]], Any]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> Any:
            edited = tap.replace(inputs[0], edit(tap.layer, tap.read(inputs[0])))
            return edited, *inputs[1:]

        return hook

    with ExitStack() as stack:
        for tap in taps:
            module = denoiser.module.get_submodule(tap.path)
            handle = (
                module.register_forward_hook(output(tap))
                if tap.port == "output"
                else module.register_forward_pre_hook(first_input(tap))
            )
            stack.callback(handle.remove)
        yield
