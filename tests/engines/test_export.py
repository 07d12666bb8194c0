from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from engines import export
from engines.backends.onnxruntime import OPSET
from engines.components import Components
from engines.denoiser import Denoiser
from engines.engine import Tap
from engines.errors import EngineError
from engines.export import check_outputs, exported
from engines.families.unet.taps import self_attention_taps
from engines.weights import permuted, reinitialised

LIMIT = 1e-5
LOCAL = b'/work|copy-packages|/home/|/root/|Traceback|stack_trace|File "|.py:'.split(b"|")


@dataclass(frozen=True)
class Exported:
    denoiser: Denoiser
    taps: tuple[Tap, ...]
    cache: Path
    model: Path

    def again(self, denoiser: Denoiser | None = None) -> Path:
        return exported(denoiser or self.denoiser, self.taps, OPSET, self.cache)

    def copied(self, folder: Path) -> Exported:
        cache = shutil.copytree(self.cache, folder / "moved")
        return Exported(self.denoiser, self.taps, cache, cache / self.model.relative_to(self.cache))


@pytest.fixture(scope="module")
def shipped(components: Components, taps: tuple[Tap, ...], cache: Path) -> Exported:
    """The shipped model, with the shipped graph if the versions of the libraries match."""
    denoiser, folder = components.denoiser, cache / "shipped"
    return Exported(denoiser, taps, folder, exported(denoiser, taps, OPSET, folder))


@pytest.fixture(scope="module")
def small(cache: Path, one_level: Callable[..., Denoiser]) -> Exported:
    """A random network: two attentions per layer, and many weights with equal entries."""
    drawn, folder = one_level(transformers=2), cache / "small"
    taps = self_attention_taps(drawn.module)
    return Exported(drawn, taps, folder, exported(drawn, taps, OPSET, folder))


@pytest.fixture
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network is traced again")

    monkeypatch.setattr(export, "trace", refuse)


def drawn(denoiser: Denoiser, rows: int, words: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    latents = torch.randn(rows, *denoiser.latent_shape, generator=generator)
    text = torch.randn(rows, words, int(denoiser.config.cross_attention_dim), generator=generator)
    return latents, torch.tensor(321.5), text


def computed(model: Path, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    arrays = [value.numpy() for value in inputs]
    outputs = session.run(None, dict(zip(("latents", "timestep", "text"), arrays, strict=True)))
    return {name: torch.from_numpy(value) for name, value in zip(names, outputs, strict=True)}


def true_outputs(
    denoiser: Denoiser, taps: Sequence[Tap], inputs: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Outputs of the tapped modules by layer, and the noise of a second call without hooks."""
    expected: dict[str, Tensor] = {}
    handles = [
        denoiser.module.get_submodule(tap.path).register_forward_hook(
            lambda _m, _i, output, tap=tap: expected.update({tap.layer: output.clone()})
        )
        for tap in taps
    ]
    with torch.inference_mode():
        denoiser.module(*inputs)
        for handle in handles:
            handle.remove()
        expected["noise"] = denoiser.module(*inputs).sample
    return expected


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def largest_error(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    assert actual.keys() == expected.keys()
    assert all(actual[name].shape == expected[name].shape for name in expected)
    return max(relative(actual[name], expected[name]) for name in expected)


def flip(file: Path, index: int) -> None:
    stored = file.read_bytes()
    file.write_bytes(stored[:index] + bytes([stored[index] ^ 0x10]) + stored[index + 1 :])


def test_the_outputs_are_the_noise_and_the_sixteen_layers_in_order(shipped: Exported) -> None:
    model = onnx.load(shipped.model)
    assert [value.name for value in model.graph.input] == ["latents", "timestep", "text"]
    layers = [tap.layer for tap in shipped.taps]
    assert [value.name for value in model.graph.output] == ["noise", *layers]
    assert len(model.graph.output) == 17
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [OPSET]
    onnx.checker.check_model(shipped.model)


@pytest.mark.parametrize(("rows", "words"), [(1, 24), (3, 8), (5, 77)])
def test_every_output_is_that_of_the_module_of_its_path(
    shipped: Exported, rows: int, words: int
) -> None:
    inputs = drawn(shipped.denoiser, rows, words)
    expected = true_outputs(shipped.denoiser, shipped.taps, inputs)
    actual = computed(shipped.model, inputs)
    assert largest_error(actual, expected) <= LIMIT
    for name, value in actual.items():
        for other, reference in expected.items():
            if other != name and reference.shape == value.shape:
                assert relative(value, reference) > 0.1, f"{name} could pass for {other}"


def test_a_network_as_it_is_drawn_is_exported_right(small: Exported) -> None:
    assert len(small.taps) == 8
    inputs = drawn(small.denoiser, 3, 5)
    expected = true_outputs(small.denoiser, small.taps, inputs)
    assert largest_error(computed(small.model, inputs), expected) <= LIMIT


def test_no_local_path_or_stack_trace_is_written(shipped: Exported, small: Exported) -> None:
    folders = (shipped.cache, small.cache, export.SHIPPED_GRAPHS)
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {"graph.onnx", "model.onnx", "sha256.json"}
    for file in files:
        stored = file.read_bytes()
        assert not [piece for piece in (*LOCAL, str(small.cache).encode()) if piece in stored]


def test_a_graph_holds_no_weights(small: Exported) -> None:
    (graph,) = small.cache.rglob("graph.onnx")
    weights = small.denoiser.module.state_dict()
    initializers = onnx.load(graph).graph.initializer
    bare = [value for value in initializers if value.name.removeprefix("denoiser.") in weights]
    assert len(bare) == len(weights)
    assert not any(value.raw_data or value.float_data for value in bare)


@pytest.mark.usefixtures("no_trace")
def test_a_second_export_traces_nothing(shipped: Exported, small: Exported) -> None:
    assert shipped.again() == shipped.model
    assert small.again() == small.model


@pytest.mark.usefixtures("no_trace")
def test_other_weights_reuse_the_graph_and_give_their_own_outputs(shipped: Exported) -> None:
    other = permuted(shipped.denoiser, 3)
    model = shipped.again(other)
    assert model != shipped.model
    inputs = drawn(other, 2, 24)
    expected = true_outputs(other, shipped.taps, inputs)
    actual = computed(model, inputs)
    assert largest_error(actual, expected) <= LIMIT
    assert relative(actual["noise"], computed(shipped.model, inputs)["noise"]) > 0.1


@pytest.mark.usefixtures("no_trace")
def test_a_network_drawn_anew_reuses_the_graph(small: Exported, tmp_path: Path) -> None:
    copy = small.copied(tmp_path)
    fresh = reinitialised(small.denoiser, 1)
    inputs = drawn(fresh, 2, 5)
    actual = computed(copy.again(fresh), inputs)
    assert largest_error(actual, true_outputs(fresh, small.taps, inputs)) <= LIMIT


@pytest.mark.usefixtures("no_trace")
def test_one_changed_weight_is_another_model(small: Exported, tmp_path: Path) -> None:
    copy = small.copied(tmp_path)
    other = small.denoiser.copied()
    assert copy.again(other) == copy.model
    with torch.no_grad():
        other.module.conv_out.bias[0] += 1
    inputs = drawn(other, 2, 5)
    change = computed(copy.again(other), inputs)["noise"] - computed(copy.model, inputs)["noise"]
    torch.testing.assert_close(change[:, 0], torch.ones_like(change[:, 0]), rtol=0, atol=1e-5)
    assert torch.equal(change[:, 1:], torch.zeros_like(change[:, 1:]))


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize("part", [0.0, 0.001, 0.31, 0.77, 1.0])
def test_a_flipped_byte_in_a_cached_model_is_found_and_named(
    small: Exported, tmp_path: Path, part: float
) -> None:
    copy = small.copied(tmp_path)
    flip(copy.model, int(part * (copy.model.stat().st_size - 1)))
    with pytest.raises(EngineError) as caught:
        copy.again()
    assert str(copy.model) in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_a_flipped_byte_in_a_cached_graph_is_found_and_named(
    small: Exported, tmp_path: Path
) -> None:
    copy = small.copied(tmp_path)
    (graph,) = copy.cache.rglob("graph.onnx")
    flip(graph, graph.stat().st_size // 2)
    assert copy.again() == copy.model
    with pytest.raises(EngineError) as caught:
        copy.again(permuted(copy.denoiser, 0))
    assert str(graph) in str(caught.value)


def test_a_cache_that_cannot_be_written_is_refused(small: Exported, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(EngineError, match="SCENEBENCH_CACHE") as caught:
            exported(small.denoiser, small.taps, OPSET, folder)
        assert str(folder) in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_large_weights_lie_beside_the_graph_and_are_checked(
    small: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_INLINE_LIMIT", 0)
    copy = small.copied(tmp_path)
    shutil.rmtree(copy.cache / "models")
    assert copy.again() == copy.model
    weights = copy.model.parent / "weights.bin"
    assert weights.stat().st_size > copy.model.stat().st_size / 20
    inputs = drawn(small.denoiser, 2, 5)
    inline, beside = computed(small.model, inputs), computed(copy.model, inputs)
    assert all(torch.equal(beside[name], inline[name]) for name in inline)
    flip(weights, 5)
    with pytest.raises(EngineError) as caught:
        copy.again()
    assert str(weights) in str(caught.value)


@pytest.mark.usefixtures("no_trace")
def test_weights_of_another_architecture_do_not_fit_a_graph(
    small: Exported, components: Components
) -> None:
    (graph,) = small.cache.rglob("graph.onnx")
    with pytest.raises(EngineError, match="has shape"):
        export.bind(onnx.load(graph), components.denoiser.module.state_dict())


def test_lost_added_and_moved_outputs_are_refused(small: Exported) -> None:
    model = onnx.load(small.model)
    check_outputs(model, small.taps)
    outputs = list(model.graph.output)
    for wrong in (outputs[:-1], outputs[1:], [*outputs, outputs[0]], outputs[::-1]):
        del model.graph.output[:]
        model.graph.output.extend(wrong)
        with pytest.raises(EngineError, match="outputs"):
            check_outputs(model, small.taps)


@pytest.mark.slow
def test_the_shipped_graph_is_what_tracing_gives_now(
    shipped: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = export.SHIPPED_GRAPHS
    monkeypatch.setattr(export, "SHIPPED_GRAPHS", tmp_path / "nothing")
    for taps in (shipped.taps, ()):
        fresh = export.graph_of(shipped.denoiser, taps, OPSET, tmp_path / "graphs")
        if not (there := graphs / fresh.parent.name / fresh.name).exists():
            pytest.skip("the shipped graphs were traced with other versions of the libraries")
        assert there.read_bytes() == fresh.read_bytes()
    model = exported(shipped.denoiser, shipped.taps, OPSET, tmp_path)
    assert model.read_bytes() == shipped.model.read_bytes()


@pytest.mark.usefixtures("no_trace")
def test_a_shipped_graph_is_used_without_tracing(
    small: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = small.copied(tmp_path)
    monkeypatch.setattr(export, "SHIPPED_GRAPHS", copy.cache / "graphs")
    empty = tmp_path / "empty"
    model = exported(small.denoiser, small.taps, OPSET, empty)
    assert model.read_bytes() == small.model.read_bytes()
    assert not list(empty.rglob("graph.onnx"))
