"""Small networks in the layouts that the labeler for photographs reads: a random DPT, and a rule in an ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import DPTConfig, DPTForDepthEstimation

DPT_SIDE = 32


def save_dpt(folder: Path, seed: int = 0) -> Path:
    """A random DPT network of four narrow layers as a transformers folder."""
    torch.manual_seed(seed)
    config = DPTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=DPT_SIDE,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
        reassemble_factors=[4, 2, 1, 0.5],
        use_auxiliary_head=False,
    )
    DPTForDepthEstimation(config).save_pretrained(folder)
    return folder


def save_saliency(path: Path, side: int, gain: float = 4.0, offset: float = -2.0, sigmoid: bool = True) -> Path:
    """An ONNX network whose logit is ``gain`` times the normalised red channel plus ``offset``."""
    weight = np.zeros((1, 3, 1, 1), np.float32)
    weight[0, 0] = gain
    parts = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.array([offset], np.float32), "b")]
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["logit"])]
    if sigmoid:
        nodes.append(helper.make_node("Sigmoid", ["logit"], ["map"]))
    shape = [1, 3, side, side]
    graph = helper.make_graph(
        nodes,
        "saliency",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("map" if sigmoid else "logit", TensorProto.FLOAT, [1, 1, side, side])],
        parts,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
