from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from engines import export
from engines.backends.onnxruntime import OPSET
from engines.components import Components
from engines.engine import Tap
from engines.errors import EngineError
from engines.export import check_outputs, exported
from engines.weights import permuted
from extract.taps import self_attention_taps

LIMIT = 1e-5
LOCAL = (
    b"/work",
    b"site-packages",
    b"/home/",
    b"/root/",
    b"Traceback",
    b"stack_trace",
    b'File "',
    b".py:",
)


@dataclass(frozen=True)
class Exported:
    unet: UNet2DConditionModel
    taps: tuple[Tap, ...]
    cache: Path
    model: Path

    def again(self, unet: UNet2DConditionModel | None = None) -> Path:
        return exported(unet or self.unet, self.taps, OPSET, self.cache)

    def moved(self, folder: Path) -> Exported:
        cache = shutil.copytree(self.cache, folder / "moved")
        return Exported(self.unet, self.taps, cache, cache / self.model.relative_to(self.cache))


@pytest.fixture(scope="module")
def whole(components: Components, taps: tuple[Tap, ...], cache: Path) -> Exported:
    """The shipped model; its graph is the shipped one, where that was traced with the versions at hand."""
    folder = cache / "whole"
    return Exported(components.unet, taps, folder, exported(components.unet, taps, OPSET, folder))


@pytest.fixture(scope="module")
def small(cache: Path, one_level: Callable[..., UNet2DConditionModel]) -> Exported:
    """A network as it is drawn: two attentions per layer, and many weights with the same entries."""
    unet = one_level(transformers=2)
    taps = self_attention_taps(unet)
    return Exported(unet, taps, cache / "small", exported(unet, taps, OPSET, cache / "small"))


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network is traced again")

    monkeypatch.setattr(export, "trace", refuse)


def drawn(unet: UNet2DConditionModel, rows: int, words: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    side = int(unet.config.sample_size)
    latents = torch.randn(rows, 4, side, side, generator=generator)
    text = torch.randn(rows, words, int(unet.config.cross_attention_dim), generator=generator)
    return latents, torch.tensor(321.5), text


def computed(model: Path, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = dict(
        zip(("latents", "timestep", "text"), (value.numpy() for value in inputs), strict=True)
    )
    return {
        name: torch.from_numpy(value)
        for name, value in zip(names, session.run(None, given), strict=True)
    }


def true_outputs(
    unet: UNet2DConditionModel, taps: Sequence[Tap], inputs: Sequence[Tensor]
) -> dict[str, Tensor]:
    """By layer what the module at its path gives, and the noise of a second run without any hook."""
    truth: dict[str, Tensor] = {}
    handles = [
        unet.get_submodule(tap.path).register_forward_hook(
            lambda _m, _i, output, tap=tap: truth.update({tap.layer: output.clone()})
        )
        for tap in taps
    ]
    with torch.inference_mode():
        unet(*inputs)
        for handle in handles:
            handle.remove()
        truth["noise"] = unet(*inputs).sample
    return truth


def relative(ours: Tensor, truth: Tensor) -> float:
    return float((ours - truth).norm() / truth.norm())


def largest_error(found: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    assert found.keys() == truth.keys()
    assert all(found[name].shape == truth[name].shape for name in truth)
    return max(relative(found[name], truth[name]) for name in truth)


def flip(file: Path, at: int) -> None:
    stored = file.read_bytes()
    file.write_bytes(stored[:at] + bytes([stored[at] ^ 0x10]) + stored[at + 1 :])


def test_the_outputs_are_the_noise_and_the_sixteen_layers_in_order(whole: Exported) -> None:
    model = onnx.load(whole.model)
    assert [value.name for value in model.graph.input] == ["latents", "timestep", "text"]
    assert [value.name for value in model.graph.output] == [
        "noise",
        *(tap.layer for tap in whole.taps),
    ]
    assert len(model.graph.output) == 17
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    onnx.checker.check_model(whole.model)


@pytest.mark.parametrize(("rows", "words"), [(1, 24), (3, 8), (5, 77)])
def test_every_output_is_that_of_the_module_of_its_path(
    whole: Exported, rows: int, words: int
) -> None:
    inputs = drawn(whole.unet, rows, words)
    truth = true_outputs(whole.unet, whole.taps, inputs)
    found = computed(whole.model, inputs)
    assert largest_error(found, truth) <= LIMIT
    for name, value in found.items():
        baselines = [
            other for other in truth if other != name and truth[other].shape == value.shape
        ]
        assert all(relative(value, truth[other]) > 0.1 for other in baselines), (
            f"{name} could pass for another layer"
        )


def test_a_network_as_it_is_drawn_is_exported_right(small: Exported) -> None:
    assert len(small.taps) == 8
    inputs = drawn(small.unet, 3, 5)
    assert (
        largest_error(computed(small.model, inputs), true_outputs(small.unet, small.taps, inputs))
        <= LIMIT
    )


def test_no_local_path_or_stack_trace_is_written(whole: Exported, small: Exported) -> None:
    folders = (whole.cache, small.cache, export.SHIPPED_GRAPHS)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"graph.onnx", "model.onnx", "sha256.json"}
    for file in files:
        stored = file.read_bytes()
        assert not [piece for piece in (*LOCAL, str(small.cache).encode()) if piece in stored]


def test_a_graph_holds_no_weights(small: Exported) -> None:
    (graph,) = small.cache.rglob("graph.onnx")
    weights = small.unet.state_dict()
    bare = [
        value
        for value in onnx.load(graph).graph.initializer
        if value.name.removeprefix("unet.") in weights
    ]
    assert len(bare) == len(weights)
    assert not any(value.raw_data or value.float_data for value in bare)


@pytest.mark.usefixtures("no_trace")
def test_a_second_export_traces_nothing(whole: Exported, small: Exported) -> None:
    assert whole.again() == whole.model
    assert small.again() == small.model


@pytest.mark.usefixtures("no_trace")
def test_other_weights_reuse_the_graph_and_give_their_own_outputs(whole: Exported) -> None:
    other = permuted(whole.unet, 3)
    model = whole.again(other)
    assert model != whole.model
    inputs = drawn(other, 2, 24)
    truth = true_outputs(other, whole.taps, inputs)
    found = computed(model, inputs)
    assert largest_error(found, truth) <= LIMIT
    assert relative(found["noise"], computed(whole.model, inputs)["noise"]) > 0.1


@pytest.mark.usefixtures("no_trace")
def test_a_network_drawn_anew_reuses_the_graph(small: Exported, tmp_path: Path) -> None:
    site = small.moved(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fresh = UNet2DConditionModel.from_config(small.unet.config).eval()
    inputs = drawn(fresh, 2, 5)
    found = computed(site.again(fresh), inputs)
    assert largest_error(found, true_outputs(fresh, small.taps, inputs)) <= LIMIT


@pytest.mark.usefixtures("no_trace")
def test_one_changed_weight_is_another_model(small: Exported, tmp_path: Path) -> None:
    site = small.moved(tmp_path)
    other = UNet2DConditionModel.from_config(small.unet.config).eval()
    other.load_state_dict(small.unet.state_dict())
    assert site.again(other) == site.model
    with torch.no_grad():
        other.conv_out.bias[0] += 1
    inputs = drawn(other, 2, 5)
    moved = computed(site.again(other), inputs)["noise"] - computed(site.model, inputs)["noise"]
    torch.testing.assert_close(moved[:, 0], torch.ones_like(moved[:, 0]), rtol=0, atol=1e-5)
    assert torch.equal(moved[:, 1:], torch.zeros_like(moved[:, 1:]))


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize("part", [0.0, 0.001, 0.31, 0.77, 1.0])
def test_a_flipped_byte_in_a_cached_model_is_found_and_named(
    small: Exported, tmp_path: Path, part: float
) -> None:
    site = small.moved(tmp_path)
    flip(site.model, int(part * (site.model.stat().st_size - 1)))
    with pytest.raises(EngineError) as caught:
        site.again()
    assert str(site.model) in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_a_flipped_byte_in_a_cached_graph_is_found_and_named(
    small: Exported, tmp_path: Path
) -> None:
    site = small.moved(tmp_path)
    (graph,) = site.cache.rglob("graph.onnx")
    flip(graph, graph.stat().st_size // 2)
    assert site.again() == site.model
    with pytest.raises(EngineError) as caught:
        site.again(permuted(site.unet, 0))
    assert str(graph) in str(caught.value)


def test_a_cache_that_cannot_be_written_is_refused(small: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(EngineError, match="SCENEBENCH_CACHE") as caught:
            exported(small.unet, small.taps, OPSET, folder)
        assert str(folder) in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_large_weights_lie_beside_the_graph_and_are_checked(
    small: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_INLINE_LIMIT", 0)
    site = small.moved(tmp_path)
    shutil.rmtree(site.cache / "models")
    assert site.again() == site.model
    weights = site.model.parent / "weights.bin"
    assert weights.stat().st_size > site.model.stat().st_size / 20
    inputs = drawn(small.unet, 2, 5)
    inline, beside = computed(small.model, inputs), computed(site.model, inputs)
    assert all(torch.equal(beside[name], inline[name]) for name in inline)
    flip(weights, 5)
    with pytest.raises(EngineError) as caught:
        site.again()
    assert str(weights) in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_weights_of_another_architecture_do_not_fit_a_graph(
    small: Exported, components: Components
) -> None:
    (graph,) = small.cache.rglob("graph.onnx")
    with pytest.raises(EngineError, match="has shape"):
        export.bind(onnx.load(graph), components.unet.state_dict())


def test_lost_added_and_moved_outputs_are_refused(small: Exported) -> None:
    model = onnx.load(small.model)
    outputs = list(model.graph.output)
    check_outputs(model, small.taps)
    for wrong in (outputs[:-1], outputs[1:], [*outputs, outputs[0]], outputs[::-1]):
        del model.graph.output[:]
        model.graph.output.extend(wrong)
        with pytest.raises(EngineError, match="outputs"):
            check_outputs(model, small.taps)


@pytest.mark.slow
def test_the_shipped_graph_is_what_tracing_gives_now(
    whole: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = export.SHIPPED_GRAPHS
    monkeypatch.setattr(export, "SHIPPED_GRAPHS", tmp_path / "nothing")
    model = exported(whole.unet, whole.taps, OPSET, tmp_path)
    (fresh,) = tmp_path.rglob("graph.onnx")
    if not (shipped / fresh.parent.name).is_dir():
        pytest.skip(
            "the shipped graphs were traced with other versions of torch, diffusers or onnx"
        )
    assert (shipped / fresh.parent.name / fresh.name).read_bytes() == fresh.read_bytes()
    assert model.read_bytes() == whole.model.read_bytes()


@pytest.mark.usefixtures("no_trace")
def test_a_shipped_graph_is_used_without_tracing(
    small: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = small.moved(tmp_path)
    monkeypatch.setattr(export, "SHIPPED_GRAPHS", site.cache / "graphs")
    model = exported(small.unet, small.taps, OPSET, tmp_path / "empty")
    assert model.read_bytes() == small.model.read_bytes()
    assert not list((tmp_path / "empty").rglob("graph.onnx"))
