"""Models of every family, and what diffusers' own pipelines compute with them."""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from engines.backends.torch_eager import TorchEager
from engines.components import Components
from engines.engine import Tap
from extract.trajectory import Step, denoise, initial_noise
from tests.small_transformers import PIPELINES

TRANSFORMERS = tuple(PIPELINES)
UNETS = ("sd2", "sdxl", "shipped")
PROMPTS = ("a red sphere on a sand floor", "an orange cone")
SEEDS = (1, 2)
EMBEDDED = 2.5


@dataclass(frozen=True)
class Reference:
    """What diffusers' pipeline gave."""

    latents: list[Tensor]
    """After every step, shaped as images."""
    images: Tensor
    """In 0..1."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """For every call of the denoiser, what its modules gave; ``""`` is the call's own input."""


def pipeline_of(folder: Path) -> Any:
    """diffusers' pipeline of a folder, loaded part by part by diffusers and transformers."""
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    parts: dict[str, Any] = {}
    classes = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    classes |= {"text_encoder": "CLIPTextModel", "tokenizer": "CLIPTokenizer"}
    for part in folder.iterdir():
        if not part.is_dir() or part.name == "scheduler":
            continue
        name = (index.get(part.name) or (None, classes.get(part.name)))[1]
        kind = getattr(diffusers, name, None) or getattr(transformers, name)
        parts[part.name] = kind.from_pretrained(part)
    file = folder / "scheduler" / "scheduler_config.json"
    schedule = json.loads(file.read_text(encoding="utf-8"))
    # Stable Diffusion's pipelines turn it off themselves, with a warning.
    schedule |= {"clip_sample": False} if schedule["_class_name"] == "DDIMScheduler" else {}
    scheduler = getattr(diffusers, schedule["_class_name"])
    name = index["_class_name"]
    if name == "StableDiffusionPipeline":
        parts |= {"safety_checker": None, "feature_extractor": None}
        parts["requires_safety_checker"] = False
    if name == "StableDiffusionXLPipeline":
        parts["force_zeros_for_empty_prompt"] = index.get("force_zeros_for_empty_prompt", True)
    if name == "StableDiffusion3Pipeline":
        parts = {"text_encoder_3": None, "tokenizer_3": None} | parts
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = getattr(diffusers, name)(**parts, scheduler=scheduler.from_config(schedule))
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_scheduler(pipeline: Any, sampler: str) -> None:
    """Give a pipeline the scheduler of a sampler, as diffusers' documentation does."""
    config, flow = pipeline.scheduler.config, "FlowMatch" in type(pipeline.scheduler).__name__
    shift = {"flow_shift": config.get("shift", 1.0)} if flow else {}
    as_flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, **shift}
    kind, extra = {
        "lms": (diffusers.LMSDiscreteScheduler, {"timestep_spacing": "linspace"}),
        "euler": (diffusers.EulerDiscreteScheduler, {}),
        "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
        "dpm": (diffusers.DPMSolverMultistepScheduler, as_flow if flow else {}),
        "unipc": (diffusers.UniPCMultistepScheduler, as_flow if flow else {}),
        "flow-euler": (diffusers.FlowMatchEulerDiscreteScheduler, {}),
    }[sampler]
    pipeline.scheduler = kind.from_config(config, **extra)


def is_flux(pipeline: Any) -> bool:
    """Whether latents are packed and guidance is an input or a second call."""
    return isinstance(pipeline, diffusers.FluxPipeline)


def generate(
    pipeline: Any,
    parts: Components,
    steps: int,
    guidance: float | None,
    hooks: Callable[[Any, dict[str, Any]], Any] | None = None,
    prompts: tuple[str, ...] = PROMPTS,
) -> Reference:
    """Run diffusers' pipeline from the noise of ``SEEDS``, recording latents and, if given, taps.

    ``hooks(denoiser, call)`` are put on the denoiser for every call of it.
    """
    denoiser = pipeline.unet if hasattr(pipeline, "unet") else pipeline.transformer
    latents = initial_noise(SEEDS[: len(prompts)], parts.latent_shape)
    height, width = parts.image_size
    if guidance is None:
        # diffusers guides above 1 only.
        options: dict[str, Any] = {"guidance_scale": 1.0}
    else:
        options = {"guidance_scale": guidance}
    if is_flux(pipeline):
        latents = pipeline._pack_latents(latents, len(latents), *parts.latent_shape)
        options = {"guidance_scale": EMBEDDED}
        if guidance is not None:
            options |= {"true_cfg_scale": guidance, "negative_prompt": [""] * len(prompts)}
    accepted = inspect.signature(pipeline.__call__).parameters
    if "use_resolution_binning" in accepted:
        options["use_resolution_binning"] = False
    if "clean_caption" in accepted:
        options["clean_caption"] = False
    after: list[Tensor] = []
    calls: list[dict[str, Any]] = []
    handles = []

    def keep(_index: int, _time: Any, latents: Tensor) -> None:
        if is_flux(pipeline):
            latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor)
        after.append(latents.clone())

    def on_step_end(_pipeline: Any, index: int, time: Any, kwargs: dict[str, Any]) -> Any:
        keep(index, time, kwargs["latents"])
        return kwargs

    def begin(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append({"": {"args": args, **kwargs}})
        for handle in handles:
            handle.remove()
        handles[:] = hooks(denoiser, calls[-1]) if hooks else []

    begins = denoiser.register_forward_pre_hook(begin, with_kwargs=True)
    newer = "callback_on_step_end" in accepted
    watch: dict[str, Any] = {"callback_on_step_end": on_step_end} if newer else {"callback": keep}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        images = pipeline(
            prompt=list(prompts),
            num_inference_steps=steps,
            latents=latents.clone(),
            height=height,
            width=width,
            output_type="pt",
            **options,
            **watch,
        ).images
    for handle in (begins, *handles):
        handle.remove()
    return Reference(after, images, calls)


def run(
    parts: Components,
    taps: tuple[Tap, ...],
    steps: int,
    guidance: float | None,
    prompts: tuple[str, ...] = PROMPTS,
) -> list[Step]:
    """The same run by this project."""
    noise = initial_noise(SEEDS[: len(prompts)], parts.latent_shape)
    engine = TorchEager(parts.denoiser, taps)
    return list(
        denoise(
            engine,
            parts.sampler(steps),
            noise,
            parts.embed(prompts),
            parts.embed([""]),
            guidance,
        )
    )


def all_taps(parts: Components) -> tuple[Tap, ...]:
    """Taps of every kind."""
    return tuple(tap for kind in parts.family.kinds for tap in parts.taps(kind))


def relative(actual: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm; NaN where either holds one."""
    return float((actual - expected).norm() / expected.norm().clamp(min=1e-20))
