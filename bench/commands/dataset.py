"""Make, check and label sets of prompts."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bench.config import Config, config_of, dataset_files, labeler_sources, names

_DEFAULT = Config()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of each action."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    make = actions.add_parser(
        "make", help="generate prompts to a folder of images, labels and contact sheets"
    )
    make.add_argument(
        "--dataset", help="a name, or a CSV file (default: the file that --prompts names)"
    )
    dataset_files(make)
    make.add_argument(
        "--out", required=True, help="folder for the images; the same command goes on with it"
    )
    make.add_argument(
        "--limit", type=int, help="generate only so many items, training and test together"
    )
    for name in ("model", "engine", "labeler"):
        make.add_argument(
            f"--{name}",
            help=f"as in run (default {getattr(_DEFAULT, name) or 'the model names it'})",
        )
    labeler_sources(make)
    make.add_argument(
        "--sampler-steps", type=int, help=f"denoising steps (default {_DEFAULT.sampler_steps})"
    )
    make.add_argument(
        "--guidance", type=float, help="strength of classifier-free guidance (default: the model's)"
    )
    make.add_argument("--batch", type=int, help=f"rows per engine call (default {_DEFAULT.batch})")
    make.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    audit = actions.add_parser(
        "audit", help="find prompts and seeds that training and test items share"
    )
    audit.add_argument("--dataset", help=f"a name, or a CSV file (default {_DEFAULT.dataset})")
    dataset_files(audit)
    audit.add_argument(
        "--threshold",
        type=float,
        help="similarity from which prompts are nearly equal (default 0.8)",
    )
    audit.add_argument(
        "--show", type=int, default=5, help="examples to print of each kind (default %(default)s)"
    )
    agree = actions.add_parser(
        "agreement", help="score one labeler against another on the same images"
    )
    agree.add_argument(
        "--labelers",
        type=names,
        required=True,
        help="two, such as tiny,midas; the first is the truth",
    )
    agree.add_argument(
        "--images", type=Path, required=True, help="folder of 'dataset make', or of PNG files"
    )
    agree.add_argument(
        "--tasks", type=names, help=f"what is compared (default {','.join(_DEFAULT.tasks)})"
    )
    agree.add_argument("--limit", type=int, help="use only the first images")
    labeler_sources(agree)


def goes_on(options: argparse.Namespace) -> bool:
    """Whether the same command goes on where it was stopped."""
    return bool(options.action == "make")


def command(options: argparse.Namespace) -> int:
    """Do it."""
    return {"make": _make, "audit": _audit, "agreement": _agreement}[options.action](options)


def _config(options: argparse.Namespace, *names_left_out: str) -> Config:
    typed: dict[str, Any] = {
        name: value for name, value in vars(options).items() if value is not None
    }
    for name in ("command", "action", *names_left_out):
        typed.pop(name, None)
    if "dataset" not in typed and str(typed.get("prompts", "")).endswith(".csv"):
        typed["dataset"] = typed.pop("prompts")
    return config_of(typed)


def _make(options: argparse.Namespace) -> int:
    from bench.curation.make import KEPT, make_dataset, print_made

    out = Path(options.out)
    before = (out / KEPT).exists()
    print_made(make_dataset(_config(options, "out"), out), kept_before=before)
    return 0


def _audit(options: argparse.Namespace) -> int:
    """1 when a test item's prompt, or nearly, is also a training item's."""
    from bench.curation.audit import print_audit

    return print_audit(_config(options, "threshold", "show"), options.threshold, options.show)


def _agreement(options: argparse.Namespace) -> int:
    from bench.curation.agreement import print_agreement

    config = _config(options, "labelers", "images", "limit")
    print_agreement(config, options.labelers, options.images, options.limit)
    return 0
