"""Measure latency, throughput, memory and errors of engines."""

from __future__ import annotations

import argparse

from bench.config import WEIGHTS, names
from bench.options.typed import expanded, parts
from bench.profiling.config import BASELINES, PARTS, ProfileConfig

_DEFAULT = ProfileConfig()


def _rows(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in parts(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of whole numbers, such as 1,2,16"
        ) from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add(
        "--model",
        type=expanded,
        default=_DEFAULT.model,
        help="name, diffusers folder or hub id (default %(default)s)",
    )
    add(
        "--weights",
        default=_DEFAULT.weights,
        help=f"{' or '.join(WEIGHTS)}: the architecture without a download",
    )
    add(
        "--engines",
        type=names,
        default=(),
        help="such as onnxruntime,openvino (default: all usable here)",
    )
    add("--batch", type=_rows, default=_DEFAULT.batch, help="rows per engine call (default 1,2,16)")
    add(
        "--items",
        type=int,
        default=_DEFAULT.items,
        help="items that extractions generate (default %(default)s)",
    )
    add(
        "--rounds",
        type=int,
        default=_DEFAULT.rounds,
        help="rounds of every engine (default %(default)s)",
    )
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add(
        "--sampler-steps",
        "--steps",
        type=int,
        default=_DEFAULT.sampler_steps,
        help="(default %(default)s)",
    )
    add(
        "--baselines",
        type=names,
        default=(),
        help=f"other implementations to time: {','.join(BASELINES)}",
    )
    add("--skip", type=names, default=(), help=f"parts to leave out, of {','.join(PARTS)}")
    add(
        "--run",
        type=expanded,
        help="run folder whose probes are applied, to find whether an engine changes their scores",
    )
    add("--out", type=expanded, help="folder for all raw readings (default: one in runs/)")


def command(options: argparse.Namespace) -> int:
    """Measure, store and print."""
    from bench.profiling.profile import profile
    from bench.profiling.tables import print_profile

    chosen = {name: value for name, value in vars(options).items() if name != "command"}
    measurements, folder = profile(ProfileConfig(**chosen))
    print_profile(measurements)
    print(f"\nall readings are in {folder}")
    return 0
