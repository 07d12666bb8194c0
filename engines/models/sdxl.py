"""Stable Diffusion XL's base model, from the hub or a local diffusers folder."""

from __future__ import annotations

from engines.engine import ModelSpec

MODEL = ModelSpec(source="stabilityai/stable-diffusion-xl-base-1.0", guidance=5.0, labeler="midas")
