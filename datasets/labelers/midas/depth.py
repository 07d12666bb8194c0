"""Relative inverse depth by a DPT network, with the preprocessing of MiDaS."""

from __future__ import annotations

import hashlib
import json
import textwrap
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers import DPTConfig, DPTForDepthEstimation
from transformers.utils import logging as transformers_logging

from datasets.errors import DatasetError
from datasets.labels import DisparityScale

DPT_LARGE = "Intel/dpt-large"
PAPER_SCALE = DisparityScale(mean=15.740597, std=9.281932)
"""Scale of DPT-Large on the paper's images, from the authors' probing code."""
_UNUSED = "neck.fusion_stage.layers.0.residual_layer1."
"""A layer that no call reaches and that the published weights lack."""
_STATED = "stated configuration"
_BY_LIBRARY = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")
"""Entries of a configuration that tell which library wrote it, or how it was loaded."""
_LARGEST_NUMBER, _MOST_LAYERS = 1 << 24, 256
"""No network that can be held in memory has a configuration beyond these."""


class DptDepth:
    """A DPT network in fp32 without TF32, on a CUDA device if there is one."""

    def __init__(self, source: str, scale: DisparityScale | None) -> None:
        """Load a transformers folder or hub id, from safetensors alone.

        Raises DatasetError if it cannot be loaded, lacks weights, or has no known scale.
        """
        net, info = _loaded(source)
        config, stated = net.config, info.get(_STATED, {})
        unlike = sorted(info.get("mismatched_keys", ()))
        if unlike and not _sizes(stated):
            raise DatasetError(_without_size(source))
        if unlike:
            name, stored, made = unlike[0]
            shapes = " and ".join(" x ".join(map(str, shape)) for shape in (stored, made))
            raise DatasetError(
                f"the depth model {source}: the weights {name} and the configuration differ "
                f"({shapes}); correct its config.json, its image_size first"
            )
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
        size = (config.hidden_size, config.num_hidden_layers)
        is_large = not config.is_hybrid and not _has_body(config) and size == (1024, 24)
        if scale is None and not is_large:
            raise DatasetError(
                f"mean and standard deviation of inverse depth are known of {DPT_LARGE} only; "
                f"give those of {source} with --depth-scale MEAN,STD ('dataset make' prints them)"
            )
        self.scale = scale or PAPER_SCALE
        self.size = size_of(source, config, stated)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        where = "cpu" if self.device.type == "cpu" else f"{self.device.type}-fp32"
        height, width = self.size
        side = str(width) if height == width else f"{height}x{width}"
        self.fingerprint = f"dpt-{_hash(state)}-{_hash_of_config(config)}-{side}-{where}"
        self.net.to(self.device)
        if _has_body(config):
            self._try(source)

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "1 h w"]:
        """Raw inverse depth of one image in 0..1, in the network's unit, at the image's size.

        Both resizings are bicubic without antialiasing, as in MiDaS.
        """
        x = image.to(self.device, torch.float32)
        x = functional.interpolate(x, self.size, mode="bicubic", align_corners=False)
        with self._exact():
            raw = self.net((x - 0.5) / 0.5).predicted_depth[:, None]
        raw = functional.interpolate(raw, image.shape[-2:], mode="bicubic", align_corners=False)
        if not bool(torch.isfinite(raw).all()):
            raise DatasetError("the depth model gives NaN or infinity; check its weights")
        return raw[:, 0].to(image.device)

    def _try(self, source: str) -> None:
        """Read one black image, since the bodies that a configuration can name differ in much."""
        height, width = self.size
        try:
            self(torch.zeros(1, 3, height, width))
        except DatasetError:
            raise
        except Exception as error:
            raise DatasetError(
                f"the depth model {source} does not turn an image of {height} x {width} pixels "
                f"into depth ({type(error).__name__}: {_one_line(error)}); "
                "name another with --depth-model"
            ) from error

    def _exact(self) -> AbstractContextManager[None]:
        """A context with convolutions in fp32, whatever else this process has set."""
        # Without ``enabled``, the function turns cuDNN off.
        return (
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
            if self.device.type == "cuda"
            else nullcontext()
        )


def _loaded(source: str) -> tuple[DPTForDepthEstimation, dict[str, Any]]:
    """Return the network and how it was loaded, with its configuration as it is stored."""
    verbosity = transformers_logging.get_verbosity()
    # Otherwise it reports the unused layer.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    stated: dict[str, Any] | None = None
    try:
        stated, _ = DPTConfig.get_config_dict(source)
        if (kind := stated.get("model_type", "dpt")) != "dpt":
            raise ValueError(f"its model_type is {kind}, where dpt is supported")
        _refuse_absurd(stated)
        net, info = DPTForDepthEstimation.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            # The library's own error does not name what differs.
            ignore_mismatched_sizes=True,
        )
    except Exception as error:
        # The library raises anything from OSError to KeyError.
        if stated is not None and not _sizes(stated):
            raise DatasetError(_without_size(source)) from error
        what = "load the depth model in" if Path(source).is_dir() else "fetch the depth model"
        raise DatasetError(
            f"cannot {what} {source} ({type(error).__name__}: {_one_line(error)}); "
            "name a transformers folder with safetensors weights with --depth-model"
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    return net, info | {_STATED: stated}


def _refuse_absurd(stated: dict[str, Any]) -> None:
    """Raise ValueError for a size with which the library would compute for hours."""
    body = stated.get("backbone_config")
    for part in (stated, body if isinstance(body, dict) else {}):
        for key, value in part.items():
            most = _MOST_LAYERS if "layers" in key else _LARGEST_NUMBER
            if isinstance(value, int) and value > most:
                raise ValueError(f"{key} is {str(value)[:60]}, where at most {most} is expected")


def _has_body(config: DPTConfig) -> bool:
    """Whether a network of its own configuration stands in for DPT's transformer."""
    return config.backbone_config is not None and not config.is_hybrid


def size_of(source: str, config: DPTConfig, stated: dict[str, Any]) -> tuple[int, int]:
    """Return height and width of the input, from the configuration that holds them.

    ``stated`` is the stored file: the library fills in missing keys. Raises DatasetError.
    """
    sizes = _sizes(stated)
    if not sizes and config.backbone_config is None:
        # Position embeddings of any other size would not have loaded.
        sizes = [config.image_size]
    if not sizes:
        raise DatasetError(_without_size(source))
    lengths = sizes[0] if isinstance(sizes[0], list | tuple) else [sizes[0]] * 2
    if len(lengths) != 2 or not all(type(length) is int and length > 0 for length in lengths):
        raise DatasetError(
            f"the depth model {source} states the image_size {sizes[0]!r}, "
            "not a number of pixels or height and width; correct its config.json"
        )
    height, width = lengths
    if height != width and not _has_body(config):
        raise DatasetError(
            f"the depth model {source} is for images of {height} x {width} pixels, and a DPT "
            "without a backbone_config reads squares only; name another with --depth-model"
        )
    return height, width


def _sizes(stated: dict[str, Any]) -> list[Any]:
    """The image sizes in a stored configuration; the one that counts comes first."""
    body = None if stated.get("is_hybrid") else stated.get("backbone_config")
    held = [part.get("image_size") for part in (body, stated) if isinstance(part, dict)]
    return [size for size in held if size is not None]


def _without_size(source: str) -> str:
    return (
        f"the depth model {source} has no image_size in its configuration or its "
        "backbone_config; add the one it was trained on to its config.json"
    )


def _one_line(error: Exception) -> str:
    return textwrap.shorten(str(error), 300).rstrip(".")


def _hash_of_config(config: Any) -> str:
    """Hash what the configuration says of the network, not which library wrote it."""
    stated = {k: str(v) for k, v in config.to_dict().items() if k not in _BY_LIBRARY}
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:12]


def _hash(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(f"{name} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:20]
