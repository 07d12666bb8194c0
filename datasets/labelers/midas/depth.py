"""Relative inverse depth by a DPT network, with the preprocessing of MiDaS."""

from __future__ import annotations

import hashlib
import textwrap
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import DPTForDepthEstimation
from transformers.utils import logging as transformers_logging

from datasets.errors import DatasetError
from datasets.labels import DisparityScale

DPT_LARGE = "Intel/dpt-large"
PAPER_SCALE = DisparityScale(mean=15.740597, std=9.281932)
"""Scale of DPT-Large on the paper's images, from the authors' probing code."""
_UNUSED = "neck.fusion_stage.layers.0.residual_layer1."
"""A layer that no call reaches and that the published weights lack."""


class DptDepth:
    """A DPT network in fp32 without TF32, on a CUDA device if there is one."""

    def __init__(self, source: str, scale: DisparityScale | None) -> None:
        """Load a transformers folder or hub id, from safetensors alone.

        Raises DatasetError if it cannot be loaded, lacks weights, or has no known scale.
        """
        net, info = _loaded(source)
        missing = sorted(name for name in info["missing_keys"] if not name.startswith(_UNUSED))
        if missing:
            raise DatasetError(
                f"the depth model {source} lacks the weights {missing[0]}; "
                "it is no whole DPT network"
            )
        self.net = net.eval().requires_grad_(False)
        state = {
            name: value
            for name, value in self.net.state_dict().items()
            if not name.startswith(_UNUSED)
        }
        broken = [name for name, value in state.items() if not bool(torch.isfinite(value).all())]
        if broken:
            raise DatasetError(
                f"the depth model {source}: {broken[0]} holds NaN or infinite weights; "
                "fetch it again"
            )
        config = self.net.config
        size = (config.hidden_size, config.num_hidden_layers)
        is_large = not config.is_hybrid and size == (1024, 24)
        if scale is None and not is_large:
            raise DatasetError(
                f"mean and standard deviation of inverse depth are known of {DPT_LARGE} only; "
                f"give those of {source} with --depth-scale MEAN,STD ('dataset make' prints them)"
            )
        self.scale = scale or PAPER_SCALE
        self.side = int(config.image_size)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        where = "cpu" if self.device.type == "cpu" else f"{self.device.type}-fp32"
        self.fingerprint = f"dpt-{_hash(state)}-{self.side}-{where}"
        self.net.to(self.device)

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 h w"]:
        """Raw inverse depth of one image in 0..1, in the network's unit, at the image's size.

        Both resizings are bicubic without antialiasing, as in MiDaS.
        """
        x = image.to(self.device, torch.float32)
        x = functional.interpolate(x, (self.side, self.side), mode="bicubic", align_corners=False)
        with self._exact():
            raw = self.net((x - 0.5) / 0.5).predicted_depth[:, None]
        raw = functional.interpolate(raw, image.shape[-2:], mode="bicubic", align_corners=False)
        if not bool(torch.isfinite(raw).all()):
            raise DatasetError("the depth model gives NaN or infinity; check its weights")
        return raw[:, 0].to(image.device)

    def _exact(self) -> AbstractContextManager[None]:
        """A context with convolutions in fp32, whatever else this process has set."""
        # Without ``enabled``, the function turns cuDNN off.
        return (
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
            if self.device.type == "cuda"
            else nullcontext()
        )


def _loaded(source: str) -> tuple[DPTForDepthEstimation, dict[str, Any]]:
    verbosity = transformers_logging.get_verbosity()
    # Otherwise it reports the unused layer.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        net, info = DPTForDepthEstimation.from_pretrained(
            source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:
        # The library raises anything from OSError to KeyError.
        first_line = next(iter(str(error).strip().splitlines()), "")
        reason = textwrap.shorten(first_line, 160).rstrip(".")
        what = "load the depth model in" if Path(source).is_dir() else "fetch the depth model"
        raise DatasetError(
            f"cannot {what} {source} ({type(error).__name__}: {reason}); "
            "name a transformers folder with safetensors weights with --depth-model"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    return net, info


def _hash(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:20]
