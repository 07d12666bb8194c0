from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from diffusers import UNet2DConditionModel

from engines.components import Components
from engines.denoiser import Denoiser
from engines.engine import Tap
from engines.errors import EngineError
from engines.export import exported, exported_in_half
from engines.families.unet import FAMILY
from engines.families.unet.taps import self_attention_taps
from engines.fusion import OPSET, PlanRow, layers_of, plan_rows_of, with_taps
from engines.tensorrt_dialect import Range, build_plan, parsed

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX builds plans without a card")
SIZES = {"latents": (2, 4, 16, 16), "text": (2, 24, 64)}


@pytest.fixture(scope="module", params=["small", pytest.param("shipped", marks=pytest.mark.slow)])
def tapped(request: pytest.FixtureRequest) -> tuple[Denoiser, tuple[Tap, ...]]:
    """A network and all of its taps. The small one has heads that TensorRT fuses."""
    if request.param == "small":
        denoiser = _one_wide_level()
        return denoiser, self_attention_taps(denoiser.module)
    return request.getfixturevalue("components").denoiser, request.getfixturevalue("taps")


def _one_wide_level() -> Denoiser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=16,
            block_out_channels=(32,),
            down_block_types=("CrossAttnDownBlock2D",),
            up_block_types=("CrossAttnUpBlock2D",),
            layers_per_block=1,
            attention_head_dim=1,
            cross_attention_dim=64,
            norm_num_groups=8,
        )
    return FAMILY.wrapped(unet.requires_grad_(False).eval(), (4, 16, 16))


@pytest.fixture(scope="module")
def rows(tapped: tuple[Denoiser, tuple[Tap, ...]], cache: Path) -> dict[str, PlanRow]:
    denoiser, taps = tapped
    half = exported_in_half(denoiser, taps, OPSET, cache)
    sites = ("none", "to_out.0", "softmax")
    plans = plan_rows_of(half, taps, SIZES, sites=sites, libraries=("tensorrt",))
    return {row.taps: row for row in plans}


def test_all_taps_are_outputs_of_a_real_plan(
    tapped: tuple[Denoiser, tuple[Tap, ...]], rows: dict[str, PlanRow]
) -> None:
    assert rows["to_out.0"].outputs == 1 + len(tapped[1])
    assert rows["none"].outputs == 1


def test_taps_on_the_projection_leave_fused_attention_and_memory_as_they_were(
    rows: dict[str, PlanRow],
) -> None:
    bare, tapped = rows["none"], rows["to_out.0"]
    assert bare.fused_attentions > 0
    assert tapped.fused_attentions == bare.fused_attentions
    assert tapped.scratch_bytes == bare.scratch_bytes
    assert tapped.layers == bare.layers


def test_a_tap_on_the_attention_weights_breaks_fused_attention(rows: dict[str, PlanRow]) -> None:
    assert rows["softmax"].fused_attentions < rows["none"].fused_attentions
    assert rows["softmax"].layers > rows["none"].layers


@pytest.mark.slow
def test_a_plan_in_fp32_has_a_dynamic_batch_and_names_its_modules(
    components: Components, taps: tuple[Tap, ...], cache: Path
) -> None:
    model = exported(components.denoiser, taps, 20, cache)
    profile = {name: Range((1, *size[1:]), size, (4, *size[1:])) for name, size in SIZES.items()}
    plan = build_plan(model, profile, "SM89", names=["noise", *(tap.layer for tap in taps)])
    assert [name for name, _ in plan.outputs] == ["noise", *(tap.layer for tap in taps)]
    assert all(shape[0] == -1 for _, shape in plan.outputs)
    layers = layers_of(plan.log)
    paths = {path for path, _ in components.denoiser.module.named_modules()}
    named = [layer for layer in layers if layer.module in paths]
    assert len(named) > 0.9 * len(layers)


def test_a_card_that_the_library_does_not_know_is_refused_in_words(
    components: Components, taps: tuple[Tap, ...], cache: Path
) -> None:
    model = exported(components.denoiser, taps, 20, cache)
    with pytest.raises(EngineError, match="does not build for SM90") as caught:
        build_plan(model, {}, "SM90")
    assert "SM89" in str(caught.value)


def test_another_order_of_outputs_is_refused(
    components: Components, taps: tuple[Tap, ...], cache: Path
) -> None:
    model = exported(components.denoiser, taps, 20, cache)
    names = ["noise", *(tap.layer for tap in taps)]
    with pytest.raises(EngineError, match="reads outputs"):
        build_plan(model, {}, names=names[::-1])


def test_what_cannot_be_parsed_is_named(tmp_path: Path) -> None:
    import tensorrt_rtx

    node = onnx.helper.make_node("SplitToSequence", ["x"], ["y"], name="denoiser.odd/split")
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4])
    y = onnx.helper.make_tensor_sequence_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "odd", [x], [y])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]),
        tmp_path / "odd.onnx",
    )
    with pytest.raises(EngineError, match=r"SplitToSequence at denoiser\.odd/split") as caught:
        parsed(tensorrt_rtx, tmp_path / "odd.onnx")
    assert "\n" not in str(caught.value)


def test_taps_move_to_tensors_of_their_own_module(
    components: Components, taps: tuple[Tap, ...], cache: Path
) -> None:
    graph = onnx.load(exported(components.denoiser, taps, 20, cache))
    for site, kind in (("softmax", "Softmax"), ("attention", "MatMul")):
        moved = with_taps(graph, taps, site)
        producers = {output: node for node in moved.graph.node for output in node.output}
        nodes = [producers[output.name] for output in moved.graph.output][1:]
        assert [node.op_type for node in nodes] == [kind] * len(taps)
        for node, tap in zip(nodes, taps, strict=True):
            assert node.name.startswith(f"denoiser.{tap.path.removesuffix('.to_out.0')}/")
    assert len(graph.graph.output) == 17


@pytest.mark.slow
def test_the_full_size_network_builds_with_every_tap(tmp_path: Path) -> None:
    """SD v1 in half precision: 17 outputs, and every attention module fused."""
    from engines.models.sd_v1 import WORDS, untrained

    unet = untrained().half()
    taps = self_attention_taps(unet)
    model = exported(FAMILY.wrapped(unet, (4, 64, 64)), taps, 20, tmp_path)
    del unet
    sizes = {"latents": (2, 4, 64, 64), "text": (2, WORDS, 768)}
    (row,) = plan_rows_of(model, taps, sizes, sites=("to_out.0",), libraries=("tensorrt",))
    assert row.outputs == 17
    assert row.fused_attentions == 32
