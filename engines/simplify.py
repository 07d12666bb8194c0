"""Simplify a traced graph: fold constants, and fuse attention into one operation.

Both are passes of onnxscript. They receive the weights as inputs: otherwise they could fold weights
into constants, and other weights could not be bound to the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import onnx

WEIGHT = "denoiser."
"""Prefix of the names of weights."""
Origins = Mapping[str, str]
"""Name of a value -> path of the module that computes it."""


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with constants folded, such as the exporter's shape arithmetic."""
    import onnxscript.optimizer

    return _with_weights_as_inputs(model, onnxscript.optimizer.optimize)


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with attention, and sums before a layer norm, as operations of ONNX Runtime.

    Its kernel never holds the attention weights of all heads at once. An attention with a tap
    inside is not fused.
    """
    import onnx_ir
    from onnxscript.rewriter import ort_fusions

    def rewrite(graph: onnx.ModelProto) -> onnx.ModelProto:
        with _silent("onnxscript"):
            rewritten, _ = ort_fusions.optimize_for_ort(onnx_ir.from_proto(graph))
        return onnx_ir.to_proto(rewritten)

    origins = {value: module for node in model.graph.node for value, module in _origin(node)}
    rewritten = _with_weights_as_inputs(model, rewrite)
    name_by_module(rewritten, origins)
    return rewritten


def name_by_module(model: onnx.ModelProto, origins: Origins) -> None:
    """Prefix each node's name with the path of its module, in place.

    A node whose outputs all have no origin belongs to the module of the node before it.
    """
    module = WEIGHT.removesuffix(".")
    for node in model.graph.node:
        module = next((origins[value] for value in node.output if value in origins), module)
        node.name = f"{module}/{node.name.rpartition('/')[2]}"


def _origin(node: onnx.NodeProto) -> Iterator[tuple[str, str]]:
    for value in node.output:
        yield value, node.name.rpartition("/")[0]


def _with_weights_as_inputs(
    model: onnx.ModelProto, rewrite: Callable[[onnx.ModelProto], onnx.ModelProto]
) -> onnx.ModelProto:
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    weights = [value for value in model.graph.initializer if value.name.startswith(WEIGHT)]
    constants = [value for value in model.graph.initializer if not value.name.startswith(WEIGHT)]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(constants)
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        for weight in weights
    )
    rewritten = rewrite(bare)
    inputs = [value for value in rewritten.graph.input if not value.name.startswith(WEIGHT)]
    del rewritten.graph.input[:]
    rewritten.graph.input.extend(inputs)
    rewritten.graph.initializer.extend(weights)
    return rewritten


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
