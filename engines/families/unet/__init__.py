"""Stable Diffusion 1, 2 and XL: a UNet with self- and cross-attention, CLIP's text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from engines.family import Classes, Family

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engines.components import Components
    from engines.conditioning import Conditioning, Inputs
    from engines.configurations import Configuration
    from engines.engine import Tap


class UNet(Family):
    """``UNet2DConditionModel`` with text and, for XL, a pooled prompt and the image's sizes."""

    title = "Stable Diffusion 1 or 2, or SDXL's base"
    pipelines = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
    denoiser = "unet"
    networks: ClassVar[Classes] = {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
    }
    tokenizers: ClassVar[Classes] = {
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
    }
    optional = ("text_encoder_2", "tokenizer_2")
    kinds = ("attention", "convolution")
    samplers = ("lms", "euler", "ddim", "dpm", "unipc", "model")
    guidance = 7.5

    def configurations(self, folder: Path, index: Configuration) -> dict[str, Configuration]:
        """See the base class; the sizes of parts that read one another are compared as well."""
        from engines.families.unet.checks import supported_configurations

        return supported_configurations(self, folder, index)

    def present(self, index: Configuration) -> tuple[str, ...]:
        """One text encoder and tokenizer, or two."""
        from engines.configurations import is_double

        second = self.optional if is_double(index) else ()
        return tuple(
            part
            for part in (*self.networks, *self.tokenizers)
            if part in second or part not in self.optional
        )

    def latent_shape(self, found: dict[str, Configuration]) -> tuple[int, int, int]:
        """Square latents of the side that the UNet's configuration gives."""
        side = int(found["unet"]["sample_size"])
        return int(found["unet"]["in_channels"]), side, side

    def patch(self, config: Any) -> int:
        """Every down block but the last halves the latents."""
        return 1 << (len(config.block_out_channels) - 1)

    def pipeline(self, parts: Components, scheduler: Any) -> Any:
        """Stable Diffusion's pipeline without safety checker, or XL's."""
        import diffusers

        if "text_encoder_2" in parts.parts:
            zeros = bool(parts.settings.get("zeros_if_empty"))
            return diffusers.StableDiffusionXLPipeline(
                **parts.parts, scheduler=scheduler, force_zeros_for_empty_prompt=zeros
            )
        return diffusers.StableDiffusionPipeline(
            **parts.parts,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def settings(self, index: Configuration) -> dict[str, Any]:
        """Whether an empty prompt is embedded as zeros."""
        from engines.configurations import is_double

        zeros = is_double(index) and bool(index.get("force_zeros_for_empty_prompt", True))
        return {"zeros_if_empty": zeros}

    def embed(self, parts: Components, prompts: Sequence[str]) -> Conditioning:
        """Words by CLIP; prompts are cut to the tokenizer's length, as diffusers does."""
        from engines.families.unet.conditions import embed

        return embed(parts, prompts)

    def predict(
        self, module: Any, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """Call the UNet with the added conditions that it takes."""
        from engines.conditioning import TEXT

        words = conditioning[TEXT]
        if "pooled" not in conditioning.tensors:
            predicted: Tensor = module(latents, timestep, words).sample
            return predicted
        added = {"text_embeds": conditioning["pooled"], "time_ids": conditioning["sizes"]}
        predicted = module(latents, timestep, words, added_cond_kwargs=added).sample
        return predicted

    def inputs(self, config: Any) -> Inputs:
        """Text, and XL's pooled prompt and sizes."""
        from engines.conditioning import TEXT, WORDS
        from engines.families.unet.conditions import SIZES, pooled_width, takes_added_conditions

        inputs: dict[str, tuple[int | str, ...]] = {TEXT: (WORDS, int(config.cross_attention_dim))}
        if takes_added_conditions(config):
            inputs |= {"pooled": (pooled_width(config),), "sizes": (SIZES,)}
        return inputs

    def taps(self, module: nn.Module, kind: str, shape: tuple[int, int, int]) -> tuple[Tap, ...]:
        """Self-attention, and the residual blocks' convolutions."""
        from engines.families.unet.taps import taps_of

        return taps_of(module, kind)


FAMILY = UNet()
