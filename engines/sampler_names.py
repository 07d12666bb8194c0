"""Names of samplers, without the libraries that run them."""

from __future__ import annotations

from collections.abc import Mapping

MODEL = "model"
"""The model's own sampler, with its own settings."""
SAMPLERS: Mapping[str, str] = {
    "lms": "LMSDiscreteScheduler",
    "euler": "EulerDiscreteScheduler",
    "ddim": "DDIMScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "flow-euler": "FlowMatchEulerDiscreteScheduler",
}
"""Name -> diffusers class; the paper's is ``lms``. All are deterministic, one call per step."""
CHOICES = (*SAMPLERS, MODEL)
