"""The cost of taps in an engine's plan: kernels, fused attention and scratch memory, by site."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.engine import Tap
from engines.errors import EngineError
from engines.layer_times import module_of

if TYPE_CHECKING:
    import onnx

SITES = ("none", "to_out.0", "attention", "softmax")
"""Sites of a tap in an attention module: none, the projection, its input, the weights."""
OPSET = 20
_MEMORY = re.compile(r"Total Activation Memory: (\d+) bytes")
_LAYER = re.compile(
    r"^Name: (?P<name>[^,]+), LayerType: (?P<kind>\w+).*?(?:TacticName: (?P<tactic>[^,]*),.*)?$"
)
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]+)\]")
_FUSED = {"Attention", "MultiHeadAttention", "PackedMultiHeadAttention", "GroupQueryAttention"}


@dataclass(frozen=True, slots=True)
class PlanLayer:
    """One kernel of a TensorRT plan."""

    name: str
    kind: str
    """TensorRT's name, such as ``kgen`` or ``gemm``."""
    module: str
    """Path of the first module it computes, ``(fused)`` if the plan does not name one."""
    is_fused_attention: bool


@dataclass(frozen=True, slots=True)
class PlanRow:
    """The size of one plan."""

    planner: str
    """Module of the library: ``tensorrt_rtx``, ``onnxruntime``."""
    taps: str
    """One of ``SITES``."""
    layers: int
    """Kernels (TensorRT) or nodes (ONNX Runtime)."""
    fused_attentions: int
    scratch_bytes: int | None
    """Memory for activations; None if the library plans it only when it runs."""
    outputs: int


def layers_of(log: Iterable[str]) -> tuple[PlanLayer, ...]:
    """Parse the kernels at the end of a TensorRT builder's VERBOSE log, without synchronisation.

    Raises EngineError if the log lists none.
    """
    listing = next(
        (message for message in reversed(list(log)) if message.startswith("VERBOSE Layers:")), None
    )
    if listing is None:
        raise EngineError(
            "TensorRT's builder has listed no layers; this version logs its plan in another way"
        )
    layers = []
    for line in listing.splitlines()[1:]:
        match = _LAYER.match(line)
        if match and match["kind"] not in ("signal", "wait"):
            origins = _ORIGIN.findall(line)
            fused = "mha" in match["name"] or "mha" in (match["tactic"] or "")
            module = module_of(" ".join(origins) or match["name"])
            layers.append(PlanLayer(match["name"], match["kind"], module, fused))
    return tuple(layers)


def scratch_of(log: Iterable[str]) -> int:
    """Bytes of activation memory in a TensorRT builder's log. Raises EngineError if it has none."""
    sizes = [int(match[1]) for message in log if (match := _MEMORY.search(message))]
    if not sizes:
        raise EngineError(
            "TensorRT's builder has announced no activation memory; "
            "this version logs it in another way"
        )
    return sizes[-1]


def with_taps(model: onnx.ModelProto, taps: Sequence[Tap], site: str) -> onnx.ModelProto:
    """A copy of the exported graph with its taps moved to ``site``.

    ``attention`` is the product of the attention weights and the values, ``softmax`` the weights.
    Raises EngineError if the graph has no such site.
    """
    import onnx

    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    if site == "to_out.0":
        return moved
    noise = moved.graph.output[0]
    kept = onnx.ValueInfoProto()
    kept.CopyFrom(noise)
    del moved.graph.output[:]
    moved.graph.output.append(kept)
    for tap in taps if site != "none" else ():
        module = tap.path.removesuffix(".to_out.0")
        nodes = [node for node in model.graph.node if module_of(node.name) == module]
        weights = next((node.output[0] for node in nodes if node.op_type == "Softmax"), None)
        value = next(
            (
                node.output[0]
                for node in nodes
                if node.op_type == "MatMul" and weights in node.input
            ),
            None,
        )
        output = {"softmax": weights, "attention": value}[site]
        if output is None:
            raise EngineError(
                f"the graph of {module} has no {site} to tap; export it at opset {OPSET}"
            )
        moved.graph.output.append(
            onnx.helper.make_tensor_value_info(output, noise.type.tensor_type.elem_type, None),
        )
    return moved


def plan_rows_of(
    model: Path,
    taps: Sequence[Tap],
    sizes: Mapping[str, tuple[int, ...]],
    sites: Sequence[str] = SITES,
    capability: str | None = "SM89",
    libraries: Sequence[str] = ("tensorrt", "onnxruntime"),
) -> list[PlanRow]:
    """One row per library and site: the plan of an exported file, in the file's precision.

    It takes a file, so that a full-size UNet can be freed before a plan is built. ``sizes`` are
    those of the inputs; ``capability`` is the card that TensorRT plans for, None the present one.
    """
    import onnx

    graph = onnx.load(model, load_external_data=False)
    rows = []
    for site in sites:
        # On the same disk as the model, so that its large weights can be linked, not copied.
        with tempfile.TemporaryDirectory(dir=model.parent.parent) as folder:
            file = Path(folder, "model.onnx")
            onnx.save(with_taps(graph, taps, site), file)
            for weights in model.parent.glob("weights.bin"):
                os.link(weights, file.with_name(weights.name))
            if "tensorrt" in libraries:
                rows.append(_tensorrt_row(file, site, sizes, capability))
            if "onnxruntime" in libraries:
                rows.append(_onnxruntime_row(file, site))
    return sorted(rows, key=lambda row: row.planner, reverse=True)


def _tensorrt_row(
    model: Path, site: str, sizes: Mapping[str, tuple[int, ...]], capability: str | None
) -> PlanRow:
    from engines.tensorrt_dialect import Range, build_plan, library

    trt: Any = library()
    profile = {name: Range(size, size, size) for name, size in sizes.items()}
    plan = build_plan(model, profile, capability, trt=trt)
    layers = layers_of(plan.log)
    fused = sum(layer.is_fused_attention for layer in layers)
    return PlanRow(trt.__name__, site, len(layers), fused, scratch_of(plan.log), len(plan.outputs))


def _onnxruntime_row(model: Path, site: str) -> PlanRow:
    import onnx
    import onnxruntime

    from engines.simplify import fused

    onnx.save(fused(onnx.load(model, load_external_data=False)), model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(model.with_name("optimized.onnx"))
    # With its weights inside, a large model would exceed the size limit of one file.
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", "optimized.bin"
    )
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    kinds = Counter(node.op_type for node in graph.node)
    attentions = sum(kinds[kind] for kind in _FUSED)
    return PlanRow("onnxruntime", site, len(graph.node), attentions, None, len(graph.output))
