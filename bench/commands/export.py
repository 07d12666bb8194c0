"""Trace a model to ONNX with and without its taps, without weights, also with fused attention."""

from __future__ import annotations

import argparse

from bench.config import default_of
from bench.options.typed import expanded, output_folder


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model",
        type=expanded,
        default=default_of("model"),
        help="name, diffusers folder or hub id (default %(default)s)",
    )
    parser.add_argument(
        "--graphs", type=output_folder, required=True, help="folder to keep the graph in"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16"),
        default="fp32",
        help="of the weights (default %(default)s)",
    )


def command(options: argparse.Namespace) -> int:
    """Trace, and print the paths of the graphs."""
    from bench.model import model_spec
    from engines.export import SHIPPED_GRAPHS, graph_of
    from engines.load import load
    from engines.onnx_session import OPSET

    components = load(model_spec(options.model).source)
    denoiser, taps = components.denoiser, components.taps()
    if options.precision == "fp16":
        denoiser = denoiser.half()
    graphs = [
        graph_of(denoiser, tapped, OPSET, options.graphs, fuse)
        for tapped in (taps, ())
        for fuse in (False, True)
    ]
    print("\n".join(map(str, graphs)))
    if any(graph.is_relative_to(SHIPPED_GRAPHS) for graph in graphs):
        print(f"graphs in {SHIPPED_GRAPHS} are used as they are: nothing was traced for them")
    return 0
