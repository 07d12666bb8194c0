from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from engines.components import Components
from engines.engine import Tap
from engines.export import exported
from engines.layer_times import module_of
from engines.onnx_session import OPSET


@pytest.fixture(scope="module")
def nodes(components: Components, taps: tuple[Tap, ...], cache: Path) -> list[onnx.NodeProto]:
    return list(onnx.load(exported(components.denoiser, taps, OPSET, cache)).graph.node)


def test_every_node_names_the_module_it_belongs_to(
    nodes: list[onnx.NodeProto], components: Components
) -> None:
    paths = {path for path, _ in components.denoiser.module.named_modules()}
    assert {module_of(node.name) for node in nodes} <= paths
    assert len({node.name for node in nodes}) == len(nodes)
    convolutions = [node for node in nodes if node.op_type == "Conv"]
    assert len(convolutions) > 50
    for node in convolutions:
        assert node.input[1] == f"denoiser.{module_of(node.name)}.weight"


def test_no_sequence_of_tensors_is_left(nodes: list[onnx.NodeProto]) -> None:
    assert not [node.op_type for node in nodes if "Sequence" in node.op_type]
