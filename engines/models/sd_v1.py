"""Stable Diffusion v1-4, the model of the paper; its weights come from the hub or a local diffusers folder."""

from engines.engine import ModelSpec

MODEL = ModelSpec(source="CompVis/stable-diffusion-v1-4", guidance=7.5, labeler="midas")
