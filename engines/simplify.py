"""Make a traced graph smaller: what is constant is computed once, and attention becomes one operation.

Both are onnxscript's passes. They see every weight as an input: they could fold weights into new constants otherwise,
and no others could be bound to the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import onnx

WEIGHT = "unet."
"""How the names of weights begin."""
Origins = Mapping[str, str]
"""By the name of a value the path of the module that computes it, as nodes are named by."""


def folded(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph without what depends on constants alone, such as the shapes that the exporter computes."""
    import onnxscript.optimizer

    return _with_weights_as_inputs(model, onnxscript.optimizer.optimize)


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with attention, and sums before a layer norm, as single operations that only ONNX Runtime knows.

    Its kernel never holds the attention weights of all heads at once. Where a tap sits inside of an attention, that
    one stays as it is.
    """
    import onnx_ir
    from onnxscript.rewriter import ort_fusions

    def rewrite(bare: onnx.ModelProto) -> onnx.ModelProto:
        with _silent("onnxscript"):
            rewritten, _ = ort_fusions.optimize_for_ort(onnx_ir.from_proto(bare))
        return onnx_ir.to_proto(rewritten)

    origins = {value: module for node in model.graph.node for value, module in _origin(node)}
    better = _with_weights_as_inputs(model, rewrite)
    name_by_module(better, origins)
    return better


def name_by_module(model: onnx.ModelProto, origins: Origins) -> None:
    """Put the path of the module that a node belongs to before its name, in place.

    A node whose values are all new belongs to the module of the node before it.
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
    better = rewrite(bare)
    given = [value for value in better.graph.input if not value.name.startswith(WEIGHT)]
    del better.graph.input[:]
    better.graph.input.extend(given)
    better.graph.initializer.extend(weights)
    return better


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
