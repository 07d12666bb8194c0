"""Every tap of every kind against forward hooks on diffusers' own pipeline."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import Tensor

from engines.engine import Tap
from tests.engines.families.conftest import Models
from tests.engines.families.reference import (
    TRANSFORMERS,
    UNETS,
    all_taps,
    generate,
    is_flux,
    pipeline_of,
    relative,
    run,
    with_scheduler,
)

STEPS = 4
UNET_LAYER = re.compile(r"(conv\.)?(?:(down|up)(\d)|(mid))\.(\d)(?:\.(\d))?")


def hooks(denoiser: Any, call: dict[str, Any]) -> list[Any]:
    """Record what every module gives in a call, by its path."""

    def keep(path: str) -> Any:
        def hook(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            call[path] = output
            call[f"{path} reads"] = args[0] if args else next(iter(kwargs.values()))

        return hook

    return [
        module.register_forward_hook(keep(path), with_kwargs=True)
        for path, module in denoiser.named_modules()
        if path
    ]


def expected(kind: str, tap: Tap, call: dict[str, Any], denoiser: Any, words: int) -> Tensor:
    """A tap's activation from what the pipeline's modules gave.

    Outputs of whole attentions and blocks, where the taps are on projections.
    """
    what, _, layer = tap.layer.rpartition(".") if kind not in UNETS else ("", "", tap.layer)
    if kind in UNETS:
        return of_unet(layer, call, denoiser)
    single, number = layer.startswith("single"), re.sub(r"\D", "", layer)
    stack = "single_transformer_blocks" if single else "transformer_blocks"
    block = f"{stack}.{number}"
    joint = kind.startswith(("sd3", "flux")) and not single
    attention = call[f"{block}.{'attn' if joint or single else 'attn1'}"]
    if layer.startswith("dual"):
        return call[f"{block}.attn2"]
    name = "attn" if joint or single else "attn1"
    projections = {"query": "to_q", "key": "to_k", "value": "to_v"}
    if what in projections:
        tokens = call[f"{block}.{name}.{projections[what]}"]
        return tokens[:, words:] if single else tokens
    if what == "residual":
        return call[block][1] if joint or single else call[block]
    if what == "feed-forward":
        output = call[f"{block}.ff"]
        # Sana's is a convolution.
        return output.flatten(2).mT if output.ndim == 4 else output
    if what == "text":
        tokens = attention[:, :words] if single else attention[1]
        return tokens.mean(1, keepdim=True)
    if what == "gated":
        after, before = streams(call, block)
        return after - before
    return attention[:, words:] if single else attention[0] if joint else attention


def streams(call: dict[str, Any], block: str) -> tuple[Tensor, Tensor]:
    """The image's stream after and before the gated attention."""
    after = "norm2" if isinstance(call[block], tuple) else "attn2"
    return call[f"{block}.{after} reads"], call[f"{block}.norm1 reads"]


def gated(kind: str, call: dict[str, Any], denoiser: Any, block: str) -> Tensor:
    """The gate of the adaptive layer norm times the attention's output, as the block adds it."""
    if kind.startswith(("sd3", "flux")):
        normed = call[f"{block}.norm1"]
        added: Tensor = normed[1][:, None] * call[f"{block}.attn"][0]
        if len(normed) == 7:
            added = added + normed[6][:, None] * call[f"{block}.attn2"]
        return added
    time = call[next(name for name in ("adaln_single", "time_embed") if name in call)][0]
    table = denoiser.get_submodule(block).scale_shift_table
    shifts: Tensor = table[None] + time.reshape(len(time), 6, -1)
    return shifts[:, 2:3] * call[f"{block}.attn1"]


def of_unet(layer: str, call: dict[str, Any], denoiser: Any) -> Tensor:
    match = UNET_LAYER.fullmatch(layer)
    assert match
    convolution, side, block, middle, number, depth = match.groups()
    base = "mid_block" if middle else f"{side}_blocks.{block}"
    if convolution:
        return call[f"{base}.resnets.{number}.conv2"].flatten(2).mT
    return call[f"{base}.attentions.{number}.transformer_blocks.{depth or 0}.attn1"]


@pytest.mark.parametrize("guidance", [pytest.param(None, marks=pytest.mark.slow), 3.0])
@pytest.mark.parametrize("kind", [*TRANSFORMERS, *UNETS])
def test_taps_are_what_hooks_on_the_pipeline_record(
    models: Models, kind: str, guidance: float | None
) -> None:
    model = models(kind)
    pipeline = model.pipeline
    if kind in UNETS:
        pipeline = pipeline_of(model.folder)
        with_scheduler(pipeline, "lms")
    denoiser = pipeline.unet if kind in UNETS else pipeline.transformer
    taps = all_taps(model.parts)
    calls = generate(pipeline, model.parts, STEPS, guidance, hooks).calls
    # A second call for true guidance follows the one with the prompt.
    calls = calls[::2] if is_flux(pipeline) and guidance else calls
    steps = run(model.parts, taps, STEPS, guidance)
    worst = {}
    for call, step in zip(calls, steps, strict=True):
        words = step.conditioning.words
        assert list(step.prediction.taps) == [tap.layer for tap in taps]
        for tap in taps:
            value = expected(kind, tap, call, denoiser, words)
            # Of two halves the second has the prompt.
            value = value.tensor_split(2)[1] if len(value) == 4 else value
            actual = step.prediction.taps[tap.layer]
            assert actual.shape == value.shape
            worst[tap.layer] = max(worst.get(tap.layer, 0.0), relative(actual, value))
    assert max(worst.values()) <= 1e-5, worst


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_gated_tap_is_the_gate_times_the_attention(models: Models, kind: str) -> None:
    model = models(kind)
    call = generate(model.pipeline, model.parts, 2, None, hooks).calls[0]
    for tap in model.parts.taps("gated"):
        block = tap.path.rpartition(".")[0].removesuffix(".attn2")
        after, before = streams(call, block)
        product = gated(kind, call, model.pipeline.transformer, block)
        # The difference of two streams is as exact as they are.
        rounding = 3e-7 * float(after.norm() / product.norm())
        assert relative(after - before, product) <= max(1e-5, rounding)
        assert rounding < 1e-3


def test_every_kind_of_tap_has_every_block(models: Models) -> None:
    layers = {kind: {tap.layer for tap in all_taps(models(kind).parts)} for kind in TRANSFORMERS}
    blocks = [f"block{number}" for number in range(3)]
    streams = ("residual", "feed-forward", "query", "key", "value", "gated")
    image = {*blocks, *(f"{kind}.{block}" for kind in streams for block in blocks)}
    # The last block of joint attention drops the text.
    text = {"text.block0", "text.block1"}
    assert layers["sd3"] == image | text
    assert layers["sd35"] == image | text | {"dual0", "dual1"}
    assert layers["pixart-alpha"] == layers["pixart-sigma"] == layers["sana"] == image
    doubles = {"double0", "double1"}
    doubles |= {f"{kind}.{block}" for kind in (*streams, "text") for block in doubles}
    singles = {"single0", "single1"}
    singles |= {f"{k}.{b}" for k in ("query", "key", "value", "text", "residual") for b in singles}
    assert layers["flux-dev"] == layers["flux-schnell"] == doubles | singles
