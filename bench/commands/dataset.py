"""Make, check and label sets of prompts."""

from __future__ import annotations

import argparse

from bench.command_line import add_options, typed_options
from bench.config import Config, config_of, default_of, names
from bench.options.typed import typed_path
from datasets.prompts import is_prompt_file

_FILES = ("dataset", "prompts", "fetch")
_NETWORKS = ("depth_model", "depth_scale", "saliency_model", "saliency_size")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of each action."""
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    make = actions.add_parser(
        "make", help="generate prompts to a folder of images, labels and contact sheets"
    )
    make.add_argument(
        "--out",
        required=True,
        type=typed_path,
        help="folder for the images; the same command continues it",
    )
    add_options(
        make,
        *_FILES,
        *_NETWORKS,
        *("limit", "model", "engine", "labeler", "sampler_steps", "guidance", "batch", "threads"),
        dataset="a name, or a CSV, TSV or text file (default: the file that --prompts names)",
    )
    audit = actions.add_parser(
        "audit", help="find prompts and seeds that training and test items share"
    )
    add_options(
        audit,
        *(*_FILES, "model"),
        model="also find prompts that this model's text encoder truncates or encodes identically",
    )
    audit.add_argument(
        "--threshold",
        type=float,
        help="similarity from which prompts are nearly equal (default 0.8)",
    )
    audit.add_argument(
        "--show", type=int, default=5, help="examples to print of each kind (default %(default)s)"
    )
    agreement = actions.add_parser(
        "agreement", help="score one labeler against another on the same images"
    )
    agreement.add_argument(
        "--labelers",
        type=names,
        required=True,
        help="two, such as tiny,midas; the first is the reference",
    )
    agreement.add_argument(
        "--images", type=typed_path, required=True, help="folder of 'dataset make', or of PNG files"
    )
    agreement.add_argument("--limit", type=int, help="use only the first images")
    tasks = ",".join(default_of("tasks"))
    add_options(agreement, "tasks", *_NETWORKS, tasks=f"tasks to compare (default {tasks})")


def resumes(options: argparse.Namespace) -> bool:
    """Whether the same command continues where it was stopped."""
    return bool(options.action == "make")


def command(options: argparse.Namespace) -> int:
    """Make a dataset, audit one, or compare two labelers."""
    return {"make": _make, "audit": _audit, "agreement": _agreement}[options.action](options)


def _config(options: argparse.Namespace, *left_out: str) -> Config:
    typed = typed_options(options, "action", *left_out)
    if "dataset" not in typed and is_prompt_file(str(typed.get("prompts", ""))):
        typed["dataset"] = typed.pop("prompts")
    return config_of(typed)


def _make(options: argparse.Namespace) -> int:
    from bench.curation.make import KEPT, make_dataset, print_made

    out = options.out
    kept_before = (out / KEPT).exists()
    print_made(make_dataset(_config(options, "out"), out), kept_before=kept_before)
    return 0


def _audit(options: argparse.Namespace) -> int:
    """Return 1 when a test prompt equals, or nearly equals, a training prompt."""
    from bench.curation.audit import print_audit
    from bench.errors import UserError

    if options.show < 0:
        raise UserError(f"--show must be at least 0, not {options.show}")
    config = _config(options, "threshold", "show")
    return print_audit(config, options.threshold, options.show, options.model is not None)


def _agreement(options: argparse.Namespace) -> int:
    from bench.curation.agreement import print_agreement

    config = _config(options, "labelers", "images", "limit")
    print_agreement(config, options.labelers, options.images, options.limit)
    return 0
