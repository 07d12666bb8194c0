"""Stable Diffusion 3 and 3.5: joint attention over image and text tokens, rectified flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from engines.engine import ATTENTION
from engines.family import Classes, Family
from engines.transformer_taps import JOINT_BLOCK, Place, Stack, kinds_of, stack_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.components import Components
    from engines.conditioning import Conditioning, Inputs
    from engines.configurations import Configuration
    from engines.engine import Tap

_BLOCKS = "transformer_blocks"
STACKS = (
    Stack(_BLOCKS, "block", JOINT_BLOCK),
    # 3.5's first blocks have a second attention, of image tokens alone.
    Stack(_BLOCKS, "dual", {ATTENTION: Place("attn2.to_out.0")}),
)


class StableDiffusion3(Family):
    """``SD3Transformer2DModel`` with two CLIP encoders and, where it is there, T5."""

    title = "Stable Diffusion 3 or 3.5"
    pipelines = ("StableDiffusion3Pipeline",)
    networks: ClassVar[Classes] = {
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "text_encoder_3": ("T5EncoderModel",),
    }
    tokenizers: ClassVar[Classes] = {
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast"),
    }
    optional = ("text_encoder_3", "tokenizer_3")
    kinds = kinds_of(STACKS)
    guidance = 7.0
    most_shift = 1.16

    def latent_shape(self, found: dict[str, Configuration]) -> tuple[int, int, int]:
        """Square latents of the side that the transformer's configuration gives."""
        config = found["transformer"]
        side = int(config.get("sample_size", 128))
        return int(config.get("in_channels", 16)), side, side

    def words(self, parts: Components) -> int:
        """CLIP's words and then T5's, which are zeros where the model has no T5."""
        return self.lengths(parts)["text_encoder"] + self.longest(parts)

    def embed(self, parts: Components, prompts: Sequence[str]) -> Conditioning:
        """Words of CLIP and T5 in one sequence, and CLIP's pooled prompt."""
        from engines.conditioning import TEXT, Conditioning
        from engines.silence import silenced

        pipeline = parts.pipeline()

        def call(chunk: list[str]) -> tuple[Tensor, ...]:
            words, _, pooled, _ = pipeline.encode_prompt(
                chunk, None, None, do_classifier_free_guidance=False, device=parts.vae.device
            )
            return words, pooled

        with silenced():
            words, pooled = parts.padded_prompts(call, prompts)
        return Conditioning({TEXT: words, "pooled": pooled})

    def predict(
        self, module: Any, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """The velocity."""
        predicted: Tensor = module(
            hidden_states=latents,
            timestep=timestep.expand(latents.shape[0]),
            encoder_hidden_states=conditioning["text"],
            pooled_projections=conditioning["pooled"],
        ).sample
        return predicted

    def inputs(self, config: Any) -> Inputs:
        """Words, and the pooled prompt."""
        from engines.conditioning import TEXT, WORDS

        return {
            TEXT: (WORDS, int(config.joint_attention_dim)),
            "pooled": (int(config.pooled_projection_dim),),
        }

    def taps(self, module: nn.Module, kind: str, shape: tuple[int, int, int]) -> tuple[Tap, ...]:
        """Places in every block; the sequence of the image's tokens is separate from the text's."""
        return stack_taps(
            module, STACKS, kind, shape[1] * shape[2] // self.patch(module.config) ** 2
        )


FAMILY = StableDiffusion3()
