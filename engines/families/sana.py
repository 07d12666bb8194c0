"""Sana: linear self-attention, Gemma's words by cross-attention, latents 32 times smaller."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from engines.family import Classes, Family
from engines.transformer_taps import CROSS_BLOCK, Stack, kinds_of, stack_taps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.components import Components
    from engines.conditioning import Conditioning, Inputs
    from engines.configurations import Configuration
    from engines.engine import Tap

STACKS = (Stack("transformer_blocks", "block", CROSS_BLOCK),)


class Sana(Family):
    """``SanaTransformer2DModel`` with a deep-compression autoencoder."""

    title = "Sana"
    pipelines = ("SanaPipeline",)
    networks: ClassVar[Classes] = {
        "transformer": ("SanaTransformer2DModel",),
        "vae": ("AutoencoderDC",),
        "text_encoder": ("Gemma2Model", "Gemma2ForCausalLM"),
    }
    tokenizers: ClassVar[Classes] = {"tokenizer": ("GemmaTokenizer", "GemmaTokenizerFast")}
    kinds = kinds_of(STACKS)
    samplers = ("model", "dpm", "flow-euler", "unipc")
    guidance = 4.5

    def reason(self, found: dict[str, Configuration]) -> str | None:
        """Sana Sprint takes one or two steps from another parametrisation."""
        if found["transformer"].get("guidance_embeds"):
            return "reads the strength of guidance (guidance_embeds), as Sana Sprint does"
        return None

    def latent_shape(self, found: dict[str, Configuration]) -> tuple[int, int, int]:
        """Square latents of the side that the transformer's configuration gives."""
        config = found["transformer"]
        side = int(config.get("sample_size", 32))
        return int(config.get("in_channels", 32)), side, side

    def embed(self, parts: Components, prompts: Sequence[str]) -> Conditioning:
        """Gemma's words with their mask; prompts follow the pipeline's own instruction.

        The empty prompt of the unconditional branch has no instruction, as in diffusers.
        """
        import inspect

        import torch

        from engines.conditioning import TEXT, Conditioning
        from engines.silence import silenced

        pipeline = parts.pipeline()
        parameters = inspect.signature(pipeline.__call__).parameters
        instruction = parameters["complex_human_instruction"].default

        def call(instructed: bool, chunk: list[str]) -> tuple[Tensor, ...]:
            words, mask, _, _ = pipeline.encode_prompt(
                chunk,
                do_classifier_free_guidance=False,
                device=parts.vae.device,
                complex_human_instruction=instruction if instructed else None,
            )
            return words, mask

        rows: dict[int, tuple[Tensor, ...]] = {}
        with silenced():
            # An empty prompt is embedded apart, since its row has no instruction.
            for instructed in (True, False):
                chosen = [row for row, text in enumerate(prompts) if bool(text) == instructed]
                texts = [prompts[row] for row in chosen]
                if texts:
                    words, mask = parts.padded_prompts(partial(call, instructed), texts)
                    rows |= dict(zip(chosen, zip(words, mask, strict=True), strict=True))
        words, mask = map(torch.stack, zip(*(rows[row] for row in sorted(rows)), strict=True))
        return Conditioning({TEXT: words, "mask": mask})

    def predict(
        self, module: Any, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """What the model's scheduler expects: a velocity, or noise."""
        from engines.attention_mask import attention_bias

        heads = int(module.config.num_cross_attention_heads)
        predicted: Tensor = module(
            latents,
            encoder_hidden_states=conditioning["text"],
            encoder_attention_mask=attention_bias(conditioning["mask"], latents.shape[0], heads),
            timestep=timestep.expand(latents.shape[0]) * module.config.timestep_scale,
        ).sample
        return predicted[:, : latents.shape[1]]

    def inputs(self, config: Any) -> Inputs:
        """Words and their mask."""
        return {"text": ("words", int(config.caption_channels)), "mask": ("words",)}

    def taps(self, module: nn.Module, kind: str, shape: tuple[int, int, int]) -> tuple[Tap, ...]:
        """Places in every block, which holds image tokens alone."""
        return stack_taps(
            module, STACKS, kind, shape[1] * shape[2] // self.patch(module.config) ** 2
        )


FAMILY = Sana()
