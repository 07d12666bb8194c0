"""Measure the shipped model and labeler, for their model cards."""

from __future__ import annotations

import argparse

from bench.options.typed import output_file, typed_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--limit",
        type=int,
        default=256,
        help="renders and samples to measure on (default %(default)s)",
    )
    parser.add_argument(
        "--pipelines",
        type=typed_path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="measure these diffusers folders instead, with diffusers' own pipelines",
    )
    parser.add_argument(
        "--controlnet",
        type=typed_path,
        metavar="FOLDER",
        help="measure this ControlNet of the shipped model instead",
    )
    parser.add_argument(
        "--device",
        default="cpu",
        choices=["cpu", "cuda"],
        help="runs the pipelines of --pipelines and --controlnet (default %(default)s)",
    )
    parser.add_argument(
        "--sheet", type=output_file(".png"), help="write a sheet of samples to this PNG"
    )


def command(options: argparse.Namespace) -> int:
    """Print the figures."""
    from bench.curation.controlnet_card import print_controlnet_card
    from bench.curation.model_card import print_card
    from bench.curation.pipeline_card import print_pipeline_cards
    from bench.errors import UserError

    if options.limit < 1:
        raise UserError(f"--limit must be at least 1, not {options.limit}")
    if options.controlnet and (options.pipelines or options.sheet):
        raise UserError("--controlnet takes neither --pipelines nor --sheet")
    if options.controlnet:
        print_controlnet_card(options.controlnet, options.limit, options.device)
    elif options.pipelines:
        print_pipeline_cards(options.pipelines, options.limit, options.sheet, options.device)
    elif options.device != "cpu":
        raise UserError(
            "--device is for --pipelines and --controlnet; the shipped model is measured on the CPU"
        )
    else:
        print_card(options.limit, options.sheet)
    return 0
