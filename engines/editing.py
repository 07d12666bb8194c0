"""Edit a UNet's activations while it runs, with temporary forward hooks at the taps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from torch import Tensor, nn

    from engines.engine import Tap


@contextmanager
def editing(
    unet: UNet2DConditionModel, taps: Sequence[Tap], edit: Callable[[str, Tensor], Tensor]
) -> Iterator[None]:
    """Replace the output of every tap by ``edit(layer, output)`` inside the block.

    Gradients flow through the edits unless the caller disables them.
    """

    def replaced(layer: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        return lambda _module, _inputs, output: edit(layer, output)

    with ExitStack() as stack:
        for tap in taps:
            stack.callback(
                unet.get_submodule(tap.path).register_forward_hook(replaced(tap.layer)).remove
            )
        yield
