"""Write a run's report.html and findings.json again, and its images for a README or a slide."""

from __future__ import annotations

import argparse

from bench.options.typed import output_file, typed_path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("run", type=typed_path, help="run folder")
    parser.add_argument(
        "--poster", type=output_file(".png"), help="also write the image strips to this PNG file"
    )
    parser.add_argument(
        "--heatmap",
        type=output_file(".png"),
        help="also write the scores by layer and step to this PNG file",
    )


def command(options: argparse.Namespace) -> int:
    """Write the report, and the images that are asked for."""
    from bench.report.html import write_report
    from bench.report.poster import write_heat_map, write_poster
    from bench.runs.results import read_results

    results = read_results(options.run)
    print(write_report(results))
    if options.poster:
        print(write_poster(results, options.poster))
    if options.heatmap:
        print(write_heat_map(results, options.heatmap))
    return 0
