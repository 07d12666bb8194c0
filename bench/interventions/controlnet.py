"""Steering by a ControlNet: a network that is made to move things, beside edits of activations.

A ControlNet is shown the target map as an image and adds its outputs to the UNet's skip connections
in both halves of the batch, at every step, as diffusers' pipeline does. Its strength is diffusers'
``controlnet_conditioning_scale``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

import engines
from bench.errors import UserError
from bench.interventions.arms import CONTROLNET, random_directions
from bench.study import Study
from datasets.items import Item
from engines.cache import hash_of_config
from engines.checksum import sha256
from engines.conditioning import TEXT, Conditioning
from engines.validate import quoted
from probes.edit import matched

if TYPE_CHECKING:
    from diffusers import ControlNetModel

SHIPPED = Path(engines.__file__).parent / "controlnets"
CONDITIONS = {"saliency": "mask", "depth": "depth"}
"""Task -> the shipped ControlNet that is shown its map."""
NEAREST_M = 0.5
"""A depth map shows inverse depth times this, as in ``engines/training/conditions.py``."""
_SAME = ("block_out_channels", "cross_attention_dim", "layers_per_block", "in_channels")
"""What a ControlNet and the UNet whose copy it started from share."""


class Steering:
    """A ControlNet of the model of a run."""

    def __init__(self, study: Study, folder: Path, task: str) -> None:
        """Load the ControlNet. Raises UserError where it does not fit the model."""
        self._task, self._scale = task, study.reader.scale
        self._unet: Any = study.components.denoiser.module
        self._net, self.fingerprint = _loaded(folder)
        for name in _SAME:
            own, unets = (getattr(net.config, name, None) for net in (self._net, self._unet))
            if own != unets:
                raise UserError(
                    f"the ControlNet in {folder} is not of this model: its {name} is {own}, the "
                    f"model's {unets}; give another --controlnet, or leave {CONTROLNET} out of "
                    "--methods"
                )

    def condition(self, target: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 3 h w"]:
        """A target map as the image that the ControlNet is shown, in 0..1."""
        shown = target.float()
        if self._task == "depth":
            inverse_depth = shown * self._scale.std + self._scale.mean
            shown = (inverse_depth * NEAREST_M).clamp(0, 1)
        return shown.expand(-1, 3, -1, -1)

    @torch.no_grad()
    def predict(
        self,
        latents: Float[Tensor, "n c h w"],
        timestep: float,
        conditioning: Conditioning,
        condition: Float[Tensor, "n 3 height width"],
        strength: float,
        random: Sequence[Item] | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Predict with the ControlNet's outputs added.

        With the rows' items as ``random``, every output keeps its norm at every position and has a
        random direction of the item.
        """
        time, words = torch.tensor(timestep), conditioning[TEXT]
        down, middle = self._net(
            latents, time, words, condition, conditioning_scale=strength, return_dict=False
        )
        if random is not None:
            *down, middle = (
                _turned(part, random, f"{CONTROLNET}-{index}")
                for index, part in enumerate((*down, middle))
            )
        predicted: Tensor = self._unet(
            latents,
            time,
            words,
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=middle,
        ).sample
        return predicted


def _turned(part: Tensor, items: Sequence[Item], name: str) -> Tensor:
    channels = part.shape[1]
    directions = torch.stack([random_directions(item, name, (channels, 1)).mT for item in items])
    tokens = part.flatten(2).mT
    turned: Tensor = matched(directions.expand_as(tokens), tokens).mT.unflatten(2, part.shape[2:])
    return turned


def _loaded(folder: Path) -> tuple[ControlNetModel, str]:
    from diffusers import ControlNetModel

    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give that of a ControlNet to --controlnet")
    files = list(folder.glob("*.safetensors"))
    try:
        if len(files) != 1:
            raise ValueError(f"it holds {len(files)} safetensors files, where one is read")
        net = ControlNetModel.from_pretrained(
            folder, torch_dtype=torch.float32, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"{folder} is not a folder of a diffusers ControlNetModel ({quoted(error)}); give "
            f"another --controlnet, or leave {CONTROLNET} out of --methods"
        ) from error
    return net.eval().requires_grad_(False), f"{sha256(files[0])}-{hash_of_config(net.config)}"


def folder_for(model: str, task: str, typed: Path | None) -> Path | None:
    """Return the ControlNet's folder: the one that was typed, else the shipped one of the task."""
    if typed is not None:
        return typed
    shipped = SHIPPED / CONDITIONS.get(task, "")
    return shipped if model == "tiny" and task in CONDITIONS and shipped.is_dir() else None
