"""OpenVINO on the CPU in bf16: faster where supported, with errors of a few percent."""

from engines.engine import Backend
from engines.openvino_model import opened, unavailable

BACKEND = Backend(
    unavailable=lambda: unavailable("bf16"),
    open=lambda denoiser, taps, cache, threads: opened(denoiser, taps, cache, threads, "bf16"),
    precision="bf16",
    keeps_weights=True,
)
