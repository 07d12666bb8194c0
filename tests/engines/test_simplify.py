"""Constants near zero survive the simplification of graphs, whose optimizer would delete them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from engines.simplify import WEIGHT, folded, fused


def quotient(
    constant: float, dtype: type = np.float32, as_initializer: bool = False
) -> onnx.ModelProto:
    """The graph of x / (x x + constant), which is NaN at zero without the constant."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    number = numpy_helper.from_array(np.array(constant, dtype), "small")
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["square"], name="denoiser.a/mul"),
        helper.make_node("Add", ["square", "small"], ["shifted"], name="denoiser.b/add"),
        helper.make_node("Div", ["x", "shifted"], ["y"], name="denoiser.b/div"),
    ]
    if not as_initializer:
        nodes.insert(0, helper.make_node("Constant", [], ["small"], value=number))
    graph = helper.make_graph(
        nodes,
        "quotient",
        [helper.make_tensor_value_info("x", kind, ["n"])],
        [helper.make_tensor_value_info("y", kind, ["n"])],
        [number] if as_initializer else [],
    )
    opsets = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def computed(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    return y


@pytest.mark.parametrize("simplify", [folded, fused])
@pytest.mark.parametrize("as_initializer", [False, True])
@pytest.mark.parametrize(
    ("constant", "dtype"),
    [
        (1e-15, np.float32),
        (1e-8, np.float32),
        (-1e-8, np.float32),
        (1e-6, np.float32),
        (1e-3, np.float32),
        (1e-7, np.float16),
    ],
)
def test_a_small_constant_that_is_added_survives(
    simplify: Callable[[onnx.ModelProto], onnx.ModelProto],
    constant: float,
    dtype: type,
    as_initializer: bool,
) -> None:
    model = simplify(quotient(constant, dtype, as_initializer))
    assert [node.op_type for node in model.graph.node if node.op_type != "Constant"] == [
        "Mul",
        "Add",
        "Div",
    ]
    assert [value.name for value in model.graph.input] == ["x"]
    x = np.array([0.0, 1e-4 if dtype is np.float32 else 0.5, 2.0], dtype)
    expected = x / (x * x + np.array(constant, dtype))
    np.testing.assert_allclose(computed(model, x), expected, rtol=1e-3)
    assert np.isfinite(computed(model, x)).all()


def test_a_zero_that_is_added_is_still_folded_away() -> None:
    """The guard keeps small constants only; the optimizer does its work on others."""
    kinds = [node.op_type for node in folded(quotient(0.0)).graph.node]
    assert "Add" not in kinds


def test_weights_stay_weights() -> None:
    model = quotient(0.5, as_initializer=True)
    model.graph.initializer[0].name = WEIGHT + "bias"
    model.graph.node[1].input[1] = WEIGHT + "bias"
    simplified = folded(model)
    assert [value.name for value in simplified.graph.initializer] == [WEIGHT + "bias"]
    assert [value.name for value in simplified.graph.input] == ["x"]
