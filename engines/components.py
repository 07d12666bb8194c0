"""The components of a latent diffusion model, and the device that they compute on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from engines.conditioning import Conditioning
from engines.cuda_stream import full_fp32
from engines.denoiser import Denoiser
from engines.engine import ATTENTION, CONVOLUTION, Tap
from engines.errors import EngineError
from engines.family import Family
from engines.host_copy import to_host
from engines.sampler_names import MODEL
from engines.samplers import Sampler, scheduler_of, set_steps

DECODE_BATCH = 4
"""Images decoded, or prompts embedded, at once; padded to this, so that no batch changes a bit."""

_SMALL_PIXELS = {"cpu": 1 << 14, "cuda": 1 << 18}
"""Larger images are decoded one by one: one keeps all cores busy, and four take gigabytes."""


@dataclass(frozen=True, slots=True)
class Components:
    """The components of a latent diffusion model.

    They are on the CPU until ``send``. Inputs of the methods may be on any device; outputs are on
    the CPU, copied once per call.
    """

    family: Family
    parts: Mapping[str, Any]
    """Networks and tokenizers, by their names in the model's index."""
    schedule: dict[str, Any]
    """Configuration of the noise schedule, as diffusers schedulers take it."""
    latent_shape: tuple[int, int, int]
    """Channels, rows and columns of a latent."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the index that conditioning depends on."""
    sampler_name: str = MODEL
    embedded_guidance: float = 0.0
    """Strength of guidance where the denoiser reads it as an input."""
    half_decoding: bool = False
    """Whether the autoencoder decodes in fp16 where it can, with normalisation in fp32."""

    @property
    def networks(self) -> dict[str, nn.Module]:
        """Name -> component with weights."""
        return {name: part for name, part in self.parts.items() if isinstance(part, nn.Module)}

    @property
    def denoiser(self) -> Denoiser:
        """The network that is probed."""
        return self.family.wrapped(self.parts[self.family.denoiser], self.latent_shape)

    def pipeline(self) -> Any:
        """The model as diffusers' own pipeline, with its own scheduler."""
        from engines.silence import silenced

        # diffusers' import of a pipeline warns of optional packages.
        with silenced():
            return self.family.pipeline(self, scheduler_of(self.sampler_name, self.schedule))

    def taps(self, kind: str = ATTENTION) -> tuple[Tap, ...]:
        """Taps of a kind, in the order of computation. Raises EngineError if there are none."""
        return self.family.taps(self.parts[self.family.denoiser], kind, self.latent_shape)

    @property
    def convolutions(self) -> tuple[Tap, ...]:
        """Taps on convolutions; none where the denoiser has none to compare with."""
        return self.taps(CONVOLUTION) if CONVOLUTION in self.family.kinds else ()

    @property
    def sampler_class(self) -> str:
        """The sampler's diffusers class."""
        return type(scheduler_of(self.sampler_name, self.schedule)).__name__

    @property
    def vae(self) -> Any:
        """The autoencoder."""
        return self.parts["vae"]

    @property
    def device(self) -> torch.device:
        """Where all components but the denoiser compute."""
        device: torch.device = self.vae.device
        return device

    @property
    def tokenizers(self) -> dict[str, Any]:
        """The tokenizers by name, of which each reads the whole prompt."""
        return {name: self.parts[name] for name in self.family.tokenizers if name in self.parts}

    def most_tokens(self, tokenizer: str) -> int:
        """Tokens that a prompt is cut to."""
        return self.family.lengths(self)[tokenizer.replace("tokenizer", "text_encoder")]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image in pixels."""
        factor = self.pixels_per_latent
        return self.latent_shape[1] * factor, self.latent_shape[2] * factor

    @property
    def pixels_per_latent(self) -> int:
        """Pixels along a side of one latent: every block of the autoencoder but one halves it."""
        config = self.vae.config
        widths = getattr(config, "block_out_channels", None) or config.encoder_block_out_channels
        return 1 << (len(widths) - 1)

    @property
    def images_at_once(self) -> int:
        """Images decoded or encoded together."""
        height, width = self.image_size
        small = _SMALL_PIXELS.get(self.device.type, _SMALL_PIXELS["cpu"])
        return DECODE_BATCH if height * width <= small else 1

    def sized(self, height: int, width: int) -> Components:
        """The same model for images of another size, in pixels. Raises EngineError if it cannot."""
        multiple = self.pixels_per_latent * self.family.patch(
            self.parts[self.family.denoiser].config
        )
        for name, pixels in (("height", height), ("width", width)):
            if pixels < multiple or pixels % multiple:
                raise EngineError(
                    f"this model's images have sides that are multiples of {multiple} pixels, and "
                    f"the {name} is {pixels}; give --size another one"
                )
        factor = self.pixels_per_latent
        return replace(self, latent_shape=(self.latent_shape[0], height // factor, width // factor))

    def sampler(self, steps: int) -> Sampler:
        """The sampler, set to ``steps`` steps. Raises EngineError if it does not fit the model."""
        scheduler = scheduler_of(self.sampler_name, self.schedule)
        patch = self.family.patch(self.parts[self.family.denoiser].config)
        tokens = (self.latent_shape[1] // patch) * (self.latent_shape[2] // patch)
        set_steps(scheduler, steps, tokens, self.family.most_shift, self.family.spaced_sigmas)
        return Sampler(scheduler)

    def send(self, device: torch.device) -> None:
        """Move all components but the denoiser, which engines execute, to ``device``."""
        if device.type == "cuda":
            full_fp32()
        for name, part in self.networks.items():
            if name != self.family.denoiser:
                part.to(device)

    @torch.inference_mode()
    def embed(self, prompts: Sequence[str]) -> Conditioning:
        """What the denoiser reads of prompts; an empty prompt is the unconditional branch."""
        return self.family.embed(self, prompts)

    def padded_prompts(
        self, call: Callable[[list[str]], tuple[Tensor, ...]], prompts: Sequence[str]
    ) -> tuple[Tensor, ...]:
        """Apply ``call`` to lists of exactly as many prompts, the last padded with its last."""
        parts = []
        for start in range(0, len(prompts), DECODE_BATCH):
            chunk = list(prompts[start : start + DECODE_BATCH])
            outputs = call(chunk + chunk[-1:] * (DECODE_BATCH - len(chunk)))
            parts.append([output[: len(chunk)].float() for output in outputs])
        return _on_cpu([torch.cat(outputs) for outputs in zip(*parts, strict=True)])

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 height width"]:
        """Decode scaled latents to images in 0..1.

        With ``half_decoding``, images of the shipped model differ by at most 0.001 from those in
        fp32; a batch that overflows fp16 is decoded again in fp32.
        """

        def call(z: Tensor) -> tuple[Tensor, Tensor]:
            raw = self.decode_raw(z)
            return (raw / 2 + 0.5).clamp(0, 1), raw.isfinite().flatten(1).all(1)

        images, finite = self.padded(call, latents, self.images_at_once)
        if self.half_decoding and not bool(finite.all()):
            return replace(self, half_decoding=False).decode(latents)
        return images

    def decode_raw(self, latents: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 3 height width"]:
        """The autoencoder's own images, in about -1..1, on its device."""
        unscaled = latents / float(self.vae.config.scaling_factor)
        shift = getattr(self.vae.config, "shift_factor", None)
        with (
            torch.autocast(self.device.type, torch.float16) if self.half_decoding else nullcontext()
        ):
            image: Tensor = self.vae.decode(unscaled + shift if shift else unscaled).sample
        return image.float()

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "n 3 height width"]) -> Float[Tensor, "n c h w"]:
        """Encode images in 0..1 to scaled mean latents."""
        scale = float(self.vae.config.scaling_factor)
        shift = getattr(self.vae.config, "shift_factor", None)

        def call(x: Tensor) -> tuple[Tensor]:
            encoded = self.vae.encode(x * 2 - 1)
            latents = (
                encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latent
            )
            return ((latents - shift if shift else latents) * scale,)

        (latents,) = self.padded(call, images, self.images_at_once)
        return latents

    def padded(
        self,
        call: Callable[[Tensor], tuple[Tensor, ...]],
        rows: Tensor,
        at_once: int = DECODE_BATCH,
    ) -> tuple[Tensor, ...]:
        """Apply ``call`` as :meth:`in_chunks` does, and copy its results to the CPU."""
        return _on_cpu(self.in_chunks(call, rows, at_once))

    def in_chunks(
        self, call: Callable[[Tensor], tuple[Tensor, ...]], rows: Tensor, at_once: int
    ) -> tuple[Tensor, ...]:
        """Apply ``call``, on the components' device, to chunks of exactly ``at_once`` rows.

        The last chunk is padded with copies of its last row. Results stay on the device.
        """
        there = rows.to(self.device, non_blocking=self.device.type != "cpu")
        parts = []
        for chunk in there.split(at_once):
            short = at_once - len(chunk)
            full = (
                torch.cat([chunk, chunk[-1:].expand(short, *chunk.shape[1:])]) if short else chunk
            )
            parts.append([output[: len(chunk)] for output in call(full)])
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))


def _on_cpu(outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Copy tensors to the CPU with one wait."""
    return tuple(to_host(dict(enumerate(outputs))).values())
