"""Export a denoiser to ONNX with one named output per tap.

Tracing is slow (half a minute for the shipped model), so its result is kept apart from the weights:
a *graph* holds the architecture and the taps, and binding any weights to it takes a second.
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from engines.backends.torch_eager import recording_taps
from engines.cache import cached_folder, hash_of_weights, key_of
from engines.conditioning import WORDS, Conditioning
from engines.denoiser import Denoiser
from engines.engine import Tap
from engines.errors import EngineError
from engines.simplify import WEIGHT, drop_squeezes_of_nothing, folded, fused, name_by_module

FIRST_INPUTS = ("latents", "timestep")
"""Inputs before those of the conditioning."""
NOISE = "noise"
SHIPPED_GRAPHS = Path(__file__).parent / "graphs"
"""Graphs of the shipped model: ``python -m bench export --graphs engines/graphs``."""
_SCOPES = "pkg.torch.onnx.name_scopes"
_FORMAT = 4
"""Raise it when ``trace`` or ``fused`` writes another file, so that cached ones are not used."""
_PAGE = 4096
_EXAMPLE_WORDS = 8
_INLINE_LIMIT = 1_500_000_000
"""Bytes of weights above which they have a file of their own: a protobuf holds at most 2 GB."""


class Tapped(nn.Module):
    """A denoiser as a module that returns the prediction and every tap."""

    def __init__(self, denoiser: Denoiser, taps: Sequence[Tap]) -> None:
        super().__init__()
        self.denoiser = denoiser.module
        self.call = denoiser
        self.taps = taps

    def forward(
        self, latents: Tensor, timestep: Tensor, *conditioning: Tensor
    ) -> tuple[Tensor, ...]:
        named = Conditioning(dict(zip(self.call.inputs, conditioning, strict=True)))
        with recording_taps(self.denoiser, self.taps) as outputs:
            noise = self.call(latents, timestep, named)
        return noise, *(outputs[tap.layer] for tap in self.taps)


def exported(
    denoiser: Denoiser, taps: Sequence[Tap], opset: int, cache: Path, fuse: bool = False
) -> Path:
    """The ONNX file of ``denoiser`` with its weights, cached or exported now.

    ``fuse`` adds operations that only ONNX Runtime has. Raises EngineError if the export lost an
    output.
    """
    state = tensors_of(denoiser.module)

    def make(folder: Path) -> None:
        model = onnx.load(graph_of(denoiser, taps, opset, cache / "graphs", fuse))
        if sum(value.nbytes for value in state.values()) > _INLINE_LIMIT:
            bind_beside(model, state, folder / "weights.bin")
        else:
            bind(model, state)
        onnx.save(model, folder / "model.onnx")

    name = f"{_graph_key(denoiser, taps, opset, fuse)}-{hash_of_weights(state)}"
    return cached_folder(cache / "models" / name, make) / "model.onnx"


def exported_in_half(denoiser: Denoiser, taps: Sequence[Tap], opset: int, cache: Path) -> Path:
    """The ONNX file of ``denoiser`` in fp16, for engines whose precision is the graph's."""
    return exported(denoiser.half(), taps, opset, cache)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, with buffers that a state dictionary leaves out."""
    return {**dict(module.named_buffers()), **module.state_dict()}


def graph_of(
    denoiser: Denoiser, taps: Sequence[Tap], opset: int, graphs: Path, fuse: bool = False
) -> Path:
    """The ONNX file of the graph without weights: shipped, cached in ``graphs``, or traced now."""

    def make(folder: Path) -> None:
        if fuse:
            model = fused(onnx.load(graph_of(denoiser, taps, opset, graphs)))
        else:
            model = trace(denoiser, taps, opset)
        check_outputs(model, taps)
        onnx.save(model, folder / "graph.onnx")

    key = _graph_key(denoiser, taps, opset, fuse)
    store = SHIPPED_GRAPHS if (SHIPPED_GRAPHS / key).is_dir() else graphs
    return cached_folder(store / key, make) / "graph.onnx"


def _graph_key(denoiser: Denoiser, taps: Sequence[Tap], opset: int, fuse: bool) -> str:
    facts = {
        "config": {
            key: str(value) for key, value in denoiser.config.items() if not key.startswith("_")
        },
        "latents": list(denoiser.latent_shape),
        "taps": [asdict(tap) for tap in taps],
        "opset": opset,
        "precision": str(denoiser.dtype),
        "format": _FORMAT,
        "versions": {
            name: version(name).partition("+")[0]
            for name in ("torch", "diffusers", "onnx", "onnxscript")
        },
    }
    return key_of(facts) + ("-fused" if fuse else "")


def trace(denoiser: Denoiser, taps: Sequence[Tap], opset: int) -> onnx.ModelProto:
    """Export the graph without its weights, in the denoiser's precision; the batch axis is dynamic.

    Each node's name begins with its module's path, which ``layer_times.module_of`` reads.
    """
    # The exporter would take a batch of 1 for a constant.
    latents, conditioning = denoiser.example(2, _EXAMPLE_WORDS)
    example = (latents, torch.tensor(1.0), *conditioning.tensors.values())
    batch = torch.export.Dim("batch", min=1, max=4096)
    words = torch.export.Dim("words", min=1, max=4096)
    dynamic = tuple(
        {0: batch} | {axis + 1: words for axis, size in enumerate(shape) if size == WORDS}
        for shape in denoiser.inputs.values()
    )
    with quiet():
        program = torch.onnx.export(
            Tapped(denoiser, taps).eval(),
            example,
            dynamo=True,
            opset_version=opset,
            input_names=[*FIRST_INPUTS, *denoiser.inputs],
            output_names=[NOISE, *(tap.layer for tap in taps)],
            dynamic_shapes=({0: batch}, {}, dynamic),
            # The exporter's optimizer would also fold weights.
            optimize=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    drop_squeezes_of_nothing(model)
    origins = dict(_origins(model))
    _forget_weights(model, denoiser.module)
    model = folded(model)
    name_by_module(model, origins)
    return model


def check_outputs(model: onnx.ModelProto, taps: Sequence[Tap]) -> None:
    """Raise EngineError unless the outputs of ``model`` are the noise and the taps, in order."""
    outputs = [output.name for output in model.graph.output]
    expected = [NOISE, *(tap.layer for tap in taps)]
    if outputs != expected:
        lost = [name for name in expected if name not in outputs]
        raise EngineError(
            f"the exported graph has outputs {outputs}, not {expected} (lost: {lost or 'none'})"
        )


def bind(graph: onnx.ModelProto, state: dict[str, Tensor]) -> onnx.ModelProto:
    """Fill in the graph's weights from a denoiser's ``state``, in place."""
    for initializer, weight in _weights(graph, state):
        initializer.raw_data = weight.numpy().tobytes()
    return graph


def bind_beside(graph: onnx.ModelProto, state: dict[str, Tensor], file: Path) -> None:
    """Write a denoiser's weights to ``file`` and their offsets in it to the graph, in place."""
    with file.open("wb") as stream:
        for initializer, weight in _weights(graph, state):
            # Aligned to memory pages, so that the file can be mapped.
            start = -(-stream.tell() // _PAGE) * _PAGE
            stream.seek(start)
            stream.write(weight.numpy().data)
            initializer.data_location = onnx.TensorProto.EXTERNAL
            location = {"location": file.name, "offset": start, "length": len(weight)}
            initializer.external_data.extend(
                onnx.StringStringEntryProto(key=key, value=str(value))
                for key, value in location.items()
            )


def _weights(
    graph: onnx.ModelProto, state: dict[str, Tensor]
) -> Iterator[tuple[onnx.TensorProto, Tensor]]:
    """Yield every initializer that is a weight, with its bytes."""
    for initializer in graph.graph.initializer:
        name = initializer.name.removeprefix(WEIGHT)
        if name != initializer.name:
            value = state[name].detach().cpu().contiguous()
            if list(value.shape) != list(initializer.dims):
                raise EngineError(
                    f"weight {name} has shape {list(value.shape)}, "
                    f"the graph needs {list(initializer.dims)}"
                )
            yield initializer, value.reshape(-1).view(torch.uint8)


def _origins(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """Yield every value with its module's path, from the exporter's metadata."""
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "[]")
        # From the outermost module to the operation itself.
        modules = [
            scope for scope in ast.literal_eval(scopes)[:-1] if (scope + ".").startswith(WEIGHT)
        ]
        for value in node.output:
            yield value, modules[-1] if modules else WEIGHT[:-1]


def _forget_weights(model: onnx.ModelProto, module: nn.Module) -> None:
    """Drop the weights' bytes and the metadata, which holds stack traces with local paths."""
    names = {WEIGHT + name for name in tensors_of(module)}
    bound = set()
    for initializer in model.graph.initializer:
        if initializer.name in names:
            bound.add(initializer.name)
            initializer.ClearField("raw_data")
            initializer.ClearField("external_data")
            initializer.ClearField("data_location")
    # A buffer may be recomputed for other sizes than the model's own.
    lost = sorted({WEIGHT + name for name in module.state_dict()} - bound)
    if lost:
        raise EngineError(f"the exported graph lacks the weight {lost[0].removeprefix(WEIGHT)}")
    del model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter's and the compiler's notes on optional packages and deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
