"""Saliency by a network in an ONNX file, with the pre- and post-processing of TRACER."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from datasets.errors import DatasetError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class OnnxSaliency:
    """A network with an input of 1 x 3 x side x side, ImageNet-normalised, and a map in 0..1."""

    def __init__(self, path: Path, side: int) -> None:
        """Open the file and run it once. Raises DatasetError if it is missing or unsuitable."""
        try:
            import onnxruntime
        except ImportError as error:
            raise DatasetError(
                "a salient-object network needs onnxruntime; pip install 'scenebench[cpu]'"
            ) from error
        try:
            stored = path.read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise DatasetError(
                f"cannot read the saliency model {path} ({reason}); name an ONNX file"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that spin while they wait slow down the engine that generates images.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
        if "CUDAExecutionProvider" in available and torch.cuda.is_available():
            # The current card: each of several ranks has its own.
            card = {"device_id": torch.cuda.current_device()}
            providers.insert(0, ("CUDAExecutionProvider", card))
        self.path, self.side = path, side
        try:
            # From memory: the fingerprint would miss weights in other files, so those are refused.
            self.session = onnxruntime.InferenceSession(stored, options, providers=providers)
        except Exception as error:
            raise DatasetError(
                f"{path} is not an ONNX network in one file ({_first_line(error)}); export it"
            ) from error
        digest = hashlib.sha256(stored).hexdigest()[:20]
        self.fingerprint = f"onnx-{digest}-{side}-{self.session.get_providers()[0]}"
        self._map(torch.zeros(1, 3, side, side))

    @torch.inference_mode()
    def __call__(self, image: Float[Tensor, "1 3 h w"]) -> Bool[Tensor, "1 h w"]:
        """The saliency mask of one image in 0..1.

        TRACER stores its map in 8 bits, rounded down, and the authors threshold at 0: salient is a
        value of at least 1/255.
        """
        x = functional.interpolate(
            image.cpu().float(), (self.side, self.side), mode="bilinear", align_corners=False
        )
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        resized = functional.interpolate(
            self._map((x - mean) / std), image.shape[-2:], mode="bilinear", align_corners=False
        )
        return (resized[:, 0] * 255 >= 1).to(image.device)

    def _map(self, x: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "1 1 s s"]:
        try:
            name = self.session.get_inputs()[0].name
            (first, *_) = self.session.run(None, {name: x.numpy()})
            values = torch.from_numpy(np.asarray(first, dtype=np.float32))
            saliency = values.view(1, 1, self.side, self.side)
        except Exception as error:
            raise DatasetError(
                f"the saliency model {self.path} does not turn 1 x 3 x {self.side} x {self.side} "
                f"into a map of that size ({_first_line(error)}); "
                "export it so, or choose another --saliency-size"
            ) from error
        if not bool(((saliency >= 0) & (saliency <= 1)).all()):
            raise DatasetError(
                f"the saliency model {self.path} gives values outside 0..1; "
                "export it with its sigmoid"
            )
        return saliency


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160].rstrip(".")
