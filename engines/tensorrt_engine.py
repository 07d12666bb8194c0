"""TensorRT on torch's memory: plans cached per card and version, one CUDA graph per shape."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engines.cache import SUMS, cached_folder, key_of
from engines.conditioning import Conditioning
from engines.cuda_stream import DeviceStream
from engines.engine import Prediction, Tap
from engines.errors import EngineError
from engines.export import FIRST_INPUTS, NOISE
from engines.tensorrt_dialect import (
    Plan,
    Range,
    build_plan,
    context_of,
    gibibytes,
    is_capturable,
    listener,
    scratch_bytes,
    torch_type,
)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Slot:
    """Memory at fixed addresses, as CUDA graphs need it, and the function that computes in it."""

    tensors: dict[str, Tensor]
    run: Callable[[], None]
    context: Any
    """One per slot: a graph is valid for one state of a context. All share the scratch memory."""


def plan_folder(
    trt: Any,
    model: Path,
    names: Sequence[str],
    sizes: dict[str, Range],
    precision: str,
    card: str,
    cache: Path,
) -> Path:
    """The folder with ``model.plan`` for this model, library, version and card, built or cached."""
    made_for = {"library": trt.__name__, "version": str(trt.__version__), "card": card}
    options = {
        "outputs": list(names),
        "sizes": {name: [size.least, size.best, size.most] for name, size in sizes.items()},
        "precision": precision,
    }
    # The name of the model's folder contains hashes of graph, taps and weights.
    stem = f"{model.parent.name}-{key_of(options)}"
    folder = cache / "tensorrt" / f"{stem}-{key_of(made_for)}"
    if not folder.is_dir():
        for other in sorted(folder.parent.glob(f"{stem}-*/made_for.json")):
            stored = _read_facts(other)
            differing = [
                f"{name} {stored.get(name)}"
                for name, value in made_for.items()
                if stored and stored.get(name) != value
            ]
            if differing:
                _LOGGER.warning(
                    "the kept TensorRT plan is for %s: building one for this machine",
                    ", ".join(differing),
                )

    def make(site: Path) -> None:
        plan: Plan = build_plan(model, sizes, trt=trt, names=names)
        (site / "model.plan").write_bytes(plan.data)
        (site / "made_for.json").write_text(json.dumps(made_for), encoding="utf-8")

    return cached_folder(folder, make)


def _read_facts(file: Path) -> dict[str, object]:
    """What a kept plan was made for; nothing if it is unfinished or its file is damaged."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    finished = (file.parent / SUMS).is_file()
    return stored if finished and isinstance(stored, dict) else {}


class TensorRT:
    """An engine for one text length and a number of rows, rebuilt when a call has more rows.

    ``reserve`` avoids rebuilding.
    """

    def __init__(
        self,
        trt: Any,
        model: Path,
        taps: Sequence[Tap],
        precision: str,
        stream: DeviceStream,
        cache: Path,
    ) -> None:
        self.trt = trt
        self.model = model
        self.names = [NOISE, *(tap.layer for tap in taps)]
        self.precision = precision
        self.stream = stream
        self.cache = cache
        self.rows = self.words = self.expected = 0
        self.engine: Any = None
        self.slots: dict[int, _Slot] = {}

    def reserve(self, rows: int) -> None:
        """Build for at least ``rows`` rows, at the first call."""
        self.expected = max(self.expected, rows)

    def __call__(self, latents: Tensor, timestep: float, conditioning: Conditioning) -> Prediction:
        """Run the denoiser once; the outputs are new tensors on the device."""
        if len(latents) > self.rows or conditioning.words != self.words:
            self._open(latents, conditioning)
        if len(latents) not in self.slots:
            self.slots[len(latents)] = self._slot(latents, conditioning)
        slot = self.slots[len(latents)]
        slot.tensors["latents"].copy_(latents)
        slot.tensors["timestep"].fill_(timestep)
        for name, value in conditioning.tensors.items():
            slot.tensors[name].copy_(value)
        self.stream.run(slot.run)
        # The next call overwrites the slot's outputs; a copy on the device takes microseconds.
        noise, *taps = (slot.tensors[name].clone() for name in self.names)
        return Prediction(noise.float(), dict(zip(self.names[1:], taps, strict=True)))

    def _open(self, latents: Tensor, conditioning: Conditioning) -> None:
        """Build or load the plan for these rows, and allocate its scratch memory."""
        rows, words = max(len(latents), self.expected), conditioning.words
        sizes = {
            name: Range((1, *shape[1:]), (rows, *shape[1:]), (rows, *shape[1:]))
            for name, shape in {"latents": tuple(latents.shape), **conditioning.shapes}.items()
        }
        self.slots.clear()
        self.engine = None
        folder = plan_folder(
            self.trt, self.model, self.names, sizes, self.precision, self.stream.card(), self.cache
        )
        data = (folder / "model.plan").read_bytes()
        self._need(len(data), "the weights")
        self.engine = self.trt.Runtime(listener(self.trt)).deserialize_cuda_engine(data)
        if self.engine is None:
            lines = listener(self.trt).lines
            errors = [line for line in lines if "ERROR" in line.partition(" ")[0]]
            reason = errors[-1].splitlines()[0] if errors else "it gave no reason"
            raise EngineError(
                f"{self.trt.__name__} cannot load {folder} ({reason}); delete it and run again"
            )
        names = {self.engine.get_tensor_name(index) for index in range(self.engine.num_io_tensors)}
        expected = {*FIRST_INPUTS, *conditioning, *self.names}
        if names != expected:
            lost = sorted(expected - names) or sorted(names)
            raise EngineError(
                f"the plan in {folder} has other inputs or outputs ({lost[0]}); "
                "delete it and run again"
            )
        size = scratch_bytes(self.engine)
        self._need(size, f"one call with {rows} rows")
        self.scratch = torch.empty(max(size, 1), dtype=torch.uint8, device=self.stream.device)
        self.rows, self.words = rows, words

    def _need(self, size: int, what: str) -> None:
        free = self.stream.free_bytes()
        if size > free:
            raise EngineError(
                f"{self.stream.card()} is too small: {what} needs {gibibytes(size)}, "
                f"free are {gibibytes(free)}; "
                "use a smaller batch, or stop what else runs on the card"
            )

    def _slot(self, latents: Tensor, conditioning: Conditioning) -> _Slot:
        """Memory for these shapes, and a CUDA graph that computes in it if one can be captured."""
        # torch's allocator counts this scratch memory, and one piece serves all shapes.
        context = context_of(self.trt, self.engine)
        if context is None:
            raise EngineError(
                f"{self.trt.__name__} has no memory left for {len(latents)} rows; "
                "use a smaller batch"
            )
        context.set_device_memory(self.scratch.data_ptr(), self.scratch.numel())
        shapes = {"latents": tuple(latents.shape), "timestep": (), **conditioning.shapes}
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise EngineError(f"the TensorRT plan refuses {name} of shape {shape}")
        tensors = {}
        for name in (*shapes, *self.names):
            tensors[name] = torch.zeros(
                tuple(context.get_tensor_shape(name)),
                dtype=torch_type(self.trt, self.engine.get_tensor_dtype(name)),
                device=self.stream.device,
            )
            if not context.set_tensor_address(name, tensors[name].data_ptr()):
                raise EngineError(f"TensorRT refuses the memory of {name}")

        def execute() -> None:
            if not context.execute_async_v3(self.stream.handle):
                lines = listener(self.trt).lines
                raise EngineError(
                    "TensorRT could not run the denoiser: "
                    + (lines[-1] if lines else "it gave no reason")
                )

        run = (
            self.stream.captured(execute) if is_capturable(context, self.stream.handle) else execute
        )
        return _Slot(tensors, run, context)
