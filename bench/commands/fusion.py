"""Show how taps change an engine's plan: fused attention and scratch memory."""

from __future__ import annotations

import argparse

from bench.options.typed import expanded

PRECISIONS = ("fp16", "fp32")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model",
        type=expanded,
        default="tiny",
        help="tiny, or sd_v1 with random weights, which do not change a plan (default tiny)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default=PRECISIONS[0], help="(default %(default)s)"
    )
    parser.add_argument("--rows", type=int, default=2, help="rows of a call (default %(default)s)")
    parser.add_argument(
        "--card", default="SM89", help="GPU that TensorRT plans for (default %(default)s)"
    )


def command(options: argparse.Namespace) -> int:
    """Print one row per library and position of the taps."""
    from tabulate import tabulate

    from bench.errors import UserError
    from bench.model import components_of, model_spec
    from engines.cache import default_cache
    from engines.export import exported
    from engines.fusion import OPSET, plan_rows_of
    from engines.tensorrt_dialect import library

    if options.rows < 1:
        raise UserError(f"--rows {options.rows}: a call has at least one row")
    spec = model_spec(options.model)
    parts = components_of(spec.source, "random" if options.model == "sd_v1" else "trained")
    denoiser, taps, words = parts.denoiser, parts.taps(), parts.embed([""]).words
    del parts
    if options.precision == "fp16":
        denoiser = denoiser.half()
    latents, conditioning = denoiser.example(options.rows, words)
    sizes = {"latents": tuple(latents.shape), **conditioning.shapes}
    libraries = ["onnxruntime"] if library() is None else ["tensorrt", "onnxruntime"]
    model = exported(denoiser, taps, OPSET, default_cache())
    # At full size a plan needs the memory of the network.
    del denoiser
    rows = plan_rows_of(model, taps, sizes, capability=options.card, libraries=libraries)
    table = [
        [
            row.planner,
            row.taps,
            row.outputs,
            row.layers,
            row.fused_attentions,
            "not told" if row.scratch_bytes is None else f"{row.scratch_bytes / 2**20:.1f}",
        ]
        for row in rows
    ]
    card = f"; TensorRT plans for {options.card}" if "tensorrt" in libraries else ""
    print(f"{options.model} in {options.precision}, {options.rows} rows{card}")
    headers = ["library", "taps on", "outputs", "layers", "fused attention", "scratch (MiB)"]
    print(
        tabulate(
            table, headers=headers, disable_numparse=True, colalign=("left", "left", *["right"] * 4)
        )
    )
    if "tensorrt" not in libraries:
        print("TensorRT is not installed: pip install 'scenebench[rtx]' plans without a card")
    return 0
