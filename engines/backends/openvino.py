"""OpenVINO on the CPU in single precision: the fastest fp32 engine measured on Intel processors."""

from engines.engine import Backend
from engines.openvino_model import opened, unavailable

BACKEND = Backend(
    unavailable=lambda: unavailable("f32"),
    open=lambda denoiser, taps, cache, threads: opened(denoiser, taps, cache, threads, "f32"),
    precision="fp32",
    keeps_weights=True,
)
