"""Write ``chunk`` without sequences of tensors, which TensorRT's parser does not read."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from engines.errors import EngineError


def without_sequences(model: onnx.ModelProto) -> None:
    """Replace every SplitToSequence and the SequenceAt that read it by one Split, in place.

    Raises EngineError for a sequence that is not cut into equal chunks, or is read where the graph does not say.
    """
    nodes = model.graph.node
    constants = {
        node.output[0]: numpy_helper.to_array(attribute.t)
        for node in nodes
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    readers: dict[str, dict[int, str]] = {}
    for node in nodes:
        if node.op_type == "SequenceAt":
            if node.input[1] not in constants:
                raise EngineError(f"the exported graph reads the sequence {node.input[0]} at no constant place")
            readers.setdefault(node.input[0], {})[int(constants[node.input[1]])] = node.output[0]
    kept: list[onnx.NodeProto] = []
    for node in nodes:
        if node.op_type == "SplitToSequence":
            chunk, parts = constants.get(node.input[1]), readers.get(node.output[0], {})
            if chunk is None or chunk.ndim or sorted(parts) != list(range(len(parts))):
                raise EngineError(f"the exported graph splits {node.input[0]} in a way that is not known here")
            sizes = onnx.helper.make_node("Constant", [], [f"{node.output[0]}_sizes"], name=f"{node.name}_sizes")
            value = numpy_helper.from_array(np.full(len(parts), chunk, dtype=np.int64))
            sizes.attribute.append(onnx.helper.make_attribute("value", value))
            outputs = [parts[place] for place in sorted(parts)]
            split = onnx.helper.make_node("Split", [node.input[0], sizes.output[0]], outputs, name=node.name)
            split.attribute.extend(attribute for attribute in node.attribute if attribute.name == "axis")
            split.metadata_props.extend(node.metadata_props)
            kept += [sizes, split]
        elif node.op_type != "SequenceAt":
            kept.append(node)
    del nodes[:]
    nodes.extend(kept)
