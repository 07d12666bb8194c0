"""PixArt alpha and sigma: self-attention of image tokens, cross-attention to T5's words."""

from __future__ import annotations

from collections.abc import Sequence
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


class PixArt(Family):
    """``PixArtTransformer2DModel``, noise prediction; of eight output channels four are noise."""

    title = "PixArt alpha or sigma"
    pipelines = ("PixArtAlphaPipeline", "PixArtSigmaPipeline")
    networks: ClassVar[Classes] = {
        "transformer": ("PixArtTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("T5EncoderModel",),
    }
    tokenizers: ClassVar[Classes] = {"tokenizer": ("T5Tokenizer", "T5TokenizerFast")}
    kinds = kinds_of(STACKS)
    samplers = ("model", "dpm", "ddim", "euler", "lms", "unipc")
    guidance = 4.5

    def latent_shape(self, found: dict[str, Configuration]) -> tuple[int, int, int]:
        """Square latents of the side that the transformer's configuration gives."""
        config = found["transformer"]
        side = int(config.get("sample_size", 128))
        return int(config.get("in_channels", 4)), side, side

    def embed(self, parts: Components, prompts: Sequence[str]) -> Conditioning:
        """T5's words with their mask and, for alpha at 1024 pixels, the image's size.

        Prompts are lowercased and stripped, and not cleaned: diffusers cleans them only where
        BeautifulSoup and ftfy are installed, and scores must not depend on that.
        """
        import torch

        from engines.conditioning import TEXT, Conditioning
        from engines.silence import silenced

        pipeline = parts.pipeline()

        def call(chunk: list[str]) -> tuple[Tensor, ...]:
            words, mask, _, _ = pipeline.encode_prompt(
                chunk,
                do_classifier_free_guidance=False,
                device=parts.vae.device,
                clean_caption=False,
            )
            return words, mask

        with silenced():
            words, mask = parts.padded_prompts(call, prompts)
        tensors = {TEXT: words, "mask": mask}
        if self._reads_sizes(parts.denoiser.config):
            height, width = map(float, parts.image_size)
            tensors["resolution"] = torch.tensor([[height, width]]).repeat(len(prompts), 1)
            tensors["aspect_ratio"] = torch.tensor([[height / width]]).repeat(len(prompts), 1)
        return Conditioning(tensors)

    def predict(
        self, module: Any, latents: Tensor, timestep: Tensor, conditioning: Conditioning
    ) -> Tensor:
        """The noise, without the variance that the other half of the channels predicts."""
        from engines.attention_mask import attention_bias

        sizes = {name: conditioning.tensors.get(name) for name in ("resolution", "aspect_ratio")}
        heads = int(module.config.num_attention_heads)
        predicted: Tensor = module(
            latents,
            encoder_hidden_states=conditioning["text"],
            encoder_attention_mask=attention_bias(conditioning["mask"], latents.shape[0], heads),
            timestep=timestep.expand(latents.shape[0]),
            added_cond_kwargs=sizes,
        ).sample
        return predicted[:, : latents.shape[1]]

    def inputs(self, config: Any) -> Inputs:
        """Words, their mask and, for alpha at 1024 pixels, the image's size."""
        inputs: dict[str, tuple[int | str, ...]] = {
            "text": ("words", int(config.caption_channels)),
            "mask": ("words",),
        }
        sizes: dict[str, tuple[int | str, ...]] = {"resolution": (2,), "aspect_ratio": (1,)}
        return inputs | (sizes if self._reads_sizes(config) else {})

    def taps(self, module: nn.Module, kind: str, shape: tuple[int, int, int]) -> tuple[Tap, ...]:
        """Places in every block, which holds image tokens alone."""
        return stack_taps(
            module, STACKS, kind, shape[1] * shape[2] // self.patch(module.config) ** 2
        )

    @staticmethod
    def _reads_sizes(config: Any) -> bool:
        stated = config.use_additional_conditions
        return int(config.sample_size) == 128 if stated is None else bool(stated)


FAMILY = PixArt()
