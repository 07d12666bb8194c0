"""FLUX.1: double blocks of image and text tokens, then single blocks of both in one sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import ATTENTION, KEY, QUERY, RESIDUAL, TEXT_STREAM, VALUE
from engines.family import Classes, Family
from engines.transformer_taps import JOINT_BLOCK, Place, Stack, kinds_of, stack_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.components import Components
    from engines.conditioning import Conditioning, Inputs
    from engines.configurations import Configuration
    from engines.engine import Tap

_SIDE = 128
"""Side of the latents of a model's own size, 1024 pixels (diffusers' ``default_sample_size``)."""
_PACK = 2
"""Rows and columns of a latent that one token holds."""
STACKS = (
    Stack("transformer_blocks", "double", JOINT_BLOCK),
    Stack(
        "single_transformer_blocks",
        "single",
        {
            ATTENTION: Place("attn"),
            QUERY: Place("attn.to_q"),
            KEY: Place("attn.to_k"),
            VALUE: Place("attn.to_v"),
            TEXT_STREAM: Place("attn", text=True),
        },
        text_first=True,
    ),
    # A single block returns text and image apart.
    Stack("single_transformer_blocks", "single", {RESIDUAL: Place(element=1)}),
)


class Flux(Family):
    """``FluxTransformer2DModel`` with CLIP's pooled prompt and T5's words."""

    title = "FLUX.1"
    pipelines = ("FluxPipeline",)
    networks: ClassVar[Classes] = {
        "transformer": ("FluxTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("T5EncoderModel",),
    }
    tokenizers: ClassVar[Classes] = {
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("T5Tokenizer", "T5TokenizerFast"),
    }
    kinds = kinds_of(STACKS)
    guidance = 3.5
    spaced_sigmas = True
    guides_by_rows = False

    def latent_shape(self, found: dict[str, Configuration]) -> tuple[int, int, int]:
        """Latents of 1024 x 1024 pixels."""
        return int(found["transformer"].get("in_channels", 64)) // _PACK**2, _SIDE, _SIDE

    def patch(self, config: Any) -> int:
        """Latents are packed 2 x 2 into tokens."""
        return _PACK

    def embeds_guidance(self, config: Any) -> bool:
        """Whether the strength of guidance is an input, as for FLUX.1-dev, not for schnell."""
        return bool(config.guidance_embeds)

    def embed(self, parts: Components, prompts: Sequence[str]) -> Conditioning:
        """T5's words, CLIP's pooled prompt and, where it is read, the strength of guidance."""
        import torch

        from engines.conditioning import TEXT, Conditioning
        from engines.silence import silenced

        pipeline = parts.pipeline()

        def call(chunk: list[str]) -> tuple[Tensor, ...]:
            words, pooled, _ = pipeline.encode_prompt(chunk, device=parts.vae.device)
            return words, pooled

        with silenced():
            words, pooled = parts.padded_prompts(call, prompts)
        tensors = {TEXT: words, "pooled": pooled}
        if self.embeds_guidance(parts.denoiser.config):
            tensors["guidance"] = torch.full((len(prompts),), parts.embedded_guidance)
        return Conditioning(tensors)

    def predict(
        self, module: Any, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """The velocity; latents are packed into tokens and back."""
        import torch

        channels, rows, columns = latents.shape[1:]
        tokens = latents.unflatten(3, (-1, _PACK)).unflatten(2, (-1, _PACK))
        tokens = tokens.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        ids = torch.zeros(rows // _PACK, columns // _PACK, 3, dtype=latents.dtype)
        ids[..., 1] += torch.arange(rows // _PACK)[:, None]
        ids[..., 2] += torch.arange(columns // _PACK)
        words = conditioning["text"]
        guidance = conditioning.tensors.get("guidance")
        predicted = module(
            hidden_states=tokens,
            timestep=timestep.expand(latents.shape[0]) / 1000,
            guidance=guidance,
            encoder_hidden_states=words,
            pooled_projections=conditioning["pooled"],
            txt_ids=words.new_zeros(words.shape[1], 3),
            img_ids=ids.flatten(0, 1).to(latents.device),
        ).sample
        image: Tensor = predicted.unflatten(1, (rows // _PACK, -1)).unflatten(
            3, (channels, _PACK, _PACK)
        )
        return image.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)

    def inputs(self, config: Any) -> Inputs:
        """Words, the pooled prompt and, where it is read, the strength of guidance."""
        inputs: dict[str, tuple[int | str, ...]] = {
            "text": ("words", int(config.joint_attention_dim)),
            "pooled": (int(config.pooled_projection_dim),),
        }
        return inputs | ({"guidance": ()} if self.embeds_guidance(config) else {})

    def taps(self, module: nn.Module, kind: str, shape: tuple[int, int, int]) -> tuple[Tap, ...]:
        """Places in double blocks, then in single blocks."""
        return stack_taps(module, STACKS, kind, shape[1] * shape[2] // _PACK**2)


FAMILY = Flux()
