"""Show how taps change an engine's plan: fused attention and scratch memory."""

from __future__ import annotations

import argparse

from bench.typed import expanded

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
    from bench.study import model_spec
    from engines.cache import default_cache
    from engines.export import exported
    from engines.fusion import OPSET, plan_rows_of
    from engines.load import load
    from engines.models.sd_v1 import WORDS, untrained
    from engines.prompt import further_rows
    from engines.tensorrt_dialect import library
    from extract.taps import self_attention_taps

    if options.rows < 1:
        raise UserError(f"--rows {options.rows}: a call has at least one row")
    if options.model == "sd_v1":
        unet, words = untrained(), WORDS
    else:
        parts = load(model_spec(options.model).source)
        unet, words = parts.unet, int(parts.tokenizer.model_max_length)
    if options.precision == "fp16":
        unet = unet.half()
    side, width = int(unet.config.sample_size), int(unet.config.cross_attention_dim)
    sizes = {
        "latents": (options.rows, int(unet.config.in_channels), side, side),
        "text": (options.rows, words + further_rows(unet.config), width),
    }
    libraries = ["onnxruntime"] if library() is None else ["tensorrt", "onnxruntime"]
    taps = self_attention_taps(unet)
    model = exported(unet, taps, OPSET, default_cache())
    # At full size a plan needs the memory of the network.
    del unet
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
