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
_LARGEST_NEAR_ZERO = 1e-6
"""onnxscript deletes the addition of constants up to 1e-8; a margin, so that none is lost."""
Origins = Mapping[str, str]
"""Name of a value -> path of the module that computes it."""


def drop_squeezes_of_nothing(model: onnx.ModelProto) -> None:
    """Turn squeezes of axes longer than one into identities, as torch does; ONNX refuses them."""
    values = (*model.graph.value_info, *model.graph.input)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in values
    }
    numbers = {
        node.output[0]: onnx.numpy_helper.to_array(attribute.t)
        for node in model.graph.node
        for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    } | {
        value.name: onnx.numpy_helper.to_array(value)
        for value in model.graph.initializer
        if value.data_type == onnx.TensorProto.INT64 and (value.raw_data or value.int64_data)
    }
    for node in model.graph.node:
        if node.op_type != "Squeeze" or len(node.input) != 2 or node.input[1] not in numbers:
            continue
        shape = shapes.get(node.input[0], [])
        axes = numbers[node.input[1]].reshape(-1).tolist()
        if shape and all(shape[axis] > 1 for axis in axes):
            node.op_type = "Identity"
            del node.input[1:]


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
    tiny = [_named(node) for node in bare.graph.node if _is_tiny(node)]
    for node in [node for node in bare.graph.node if _is_tiny(node)]:
        bare.graph.node.remove(node)
    kept = [*model.graph.initializer, *tiny]
    weights = [value for value in kept if value.name.startswith(WEIGHT) or _near_zero(value)]
    constants = [value for value in kept if not any(value is weight for weight in weights)]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(constants)
    bare.graph.input.extend(
        onnx.helper.make_tensor_value_info(weight.name, weight.data_type, list(weight.dims))
        for weight in weights
    )
    rewritten = rewrite(bare)
    names = {weight.name for weight in weights}
    inputs = [value for value in rewritten.graph.input if value.name not in names]
    del rewritten.graph.input[:]
    rewritten.graph.input.extend(inputs)
    rewritten.graph.initializer.extend(weights)
    return rewritten


def _is_tiny(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" and any(
        attribute.name == "value" and _near_zero(attribute.t) for attribute in node.attribute
    )


def _named(node: onnx.NodeProto) -> onnx.TensorProto:
    tensor = onnx.TensorProto()
    tensor.CopyFrom(next(attribute.t for attribute in node.attribute if attribute.name == "value"))
    tensor.name = node.output[0]
    return tensor


def _near_zero(tensor: onnx.TensorProto) -> bool:
    """Whether a constant is a number that the optimizer takes for zero, and so removes its sums."""
    if tensor.data_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16) or any(
        size != 1 for size in tensor.dims
    ):
        return False
    if not (tensor.raw_data or tensor.float_data or tensor.int32_data):
        return False
    value = abs(float(onnx.numpy_helper.to_array(tensor).reshape(())))
    return 0.0 < value <= _LARGEST_NEAR_ZERO


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
