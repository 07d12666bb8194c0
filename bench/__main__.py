"""``python -m bench``: the command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from bench.config import SOURCES, Config, config_of, quick, read_toml
from bench.errors import MistakeError

_DEFAULT = Config()
_STEPS_HELP = "steps to probe, counted from 1, such as 1,2,5 or 1-5 (default: all)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what was asked, 2 with one sentence when it could not."""
    options = _parser().parse_args(arguments)
    try:
        _refuse_a_foreign_datasets()
        return int(options.command(options))
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    except MistakeError as error:
        return _say(error)
    except Exception as error:
        from bench.errors import mistakes

        if isinstance(error, mistakes()):
            return _say(error)
        raise


def _say(error: Exception) -> int:
    print(f"bench: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _refuse_a_foreign_datasets() -> None:
    """HuggingFace's package of the same name must not be found in place of ours."""
    spec = find_spec("datasets")
    ours = Path(__file__).parent.parent / "datasets"
    if spec is None or spec.origin is None or Path(spec.origin).parent.resolve() != ours.resolve():
        raise MistakeError(
            f"'import datasets' finds {spec.origin if spec else 'nothing'}, not scenebench's own package in {ours}; "
            "use an environment of its own, without HuggingFace's datasets"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="What does a diffusion model know about the scene it is painting, where, and from when on?",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="paint, probe, score: the experiment"))
    for name, text in (
        ("leaderboard", "print the tables of finished runs"),
        ("report", "write report.html of a run again"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("run", type=Path, nargs="+" if name == "leaderboard" else None, help="run folder")
        command.set_defaults(command=_leaderboard if name == "leaderboard" else _report)
        if name == "report":
            command.add_argument("--poster", type=Path, help="write the strips to this PNG as well")
    parity = commands.add_parser("parity", help="hold an engine against PyTorch, per layer and step")
    parity.add_argument("--model", default=_DEFAULT.model)
    parity.add_argument("--engine", default=_DEFAULT.engine)
    parity.add_argument("--items", type=int, default=4, help="items to paint (default %(default)s)")
    parity.set_defaults(command=_parity)
    export = commands.add_parser("export", help="trace a model to ONNX with its taps, without weights")
    export.add_argument("--model", default=_DEFAULT.model)
    export.add_argument("--graphs", type=Path, required=True, help="folder to keep the graph in")
    export.set_defaults(command=_export)
    card = commands.add_parser("card", help="measure the shipped model and labeler: the figures of their cards")
    card.add_argument("--limit", type=int, default=256, help="renders and samples to measure on (default %(default)s)")
    card.add_argument("--sheet", type=Path, help="write a sheet of samples to this PNG")
    card.set_defaults(command=_card)
    listing = commands.add_parser("list", help="models, engines, datasets, labelers and tasks that can be named")
    listing.set_defaults(command=_list)
    doctor = commands.add_parser("doctor", help="what works on this machine, and what is missing")
    doctor.set_defaults(command=_doctor)
    return parser


def _add_run(command: argparse.ArgumentParser) -> None:
    # Every default is None: only what was typed overrides the configuration file.
    add = command.add_argument
    add("--config", type=Path, help="TOML file with any of these options; the command line wins")
    add("--quick", action="store_true", help="fewer items and steps: under a minute")
    add("--model", help=f"name, diffusers folder or hub id (default {_DEFAULT.model})")
    add("--engine", help=f"what executes the UNet (default {_DEFAULT.engine})")
    add("--dataset", help=f"prompts and seeds (default {_DEFAULT.dataset})")
    add("--labeler", help="what reads the pictures (default: the model's)")
    add("--tasks", type=_names, help=f"what probes predict, such as {','.join(_DEFAULT.tasks)} (the default)")
    add("--layers", type=_names, help="layers or blocks to probe, such as mid,up2 or up3.1 (default: all)")
    add("--steps", type=_steps, help=_STEPS_HELP)
    add("--sampler-steps", type=int, help=f"denoising steps (default {_DEFAULT.sampler_steps})")
    add("--guidance", type=float, help="strength of classifier-free guidance (default: the model's)")
    add("--limit", type=int, help="use only so many items, training and test together")
    add("--source", help=f"{' or '.join(SOURCES)}: painted pictures, or rendered ones noised to every step")
    add(
        "--random-networks",
        type=int,
        help=f"networks of shuffled weights beside it (default {_DEFAULT.random_networks})",
    )
    add("--batch", type=int, help=f"rows per engine call (default {_DEFAULT.batch})")
    add("--shard", type=int, help=f"items per shard (default {_DEFAULT.shard})")
    add("--threads", type=int, help="CPU threads (default: all cores)")
    add("--out", help="run folder (default: one in runs/, named after the configuration)")
    command.set_defaults(command=_run)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _steps(text: str) -> tuple[int, ...]:
    steps: list[int] = []
    for part in _names(text):
        first, dash, last = part.partition("-")
        try:
            steps.extend(range(int(first), int(last) + 1) if dash else [int(first)])
        except ValueError:
            raise argparse.ArgumentTypeError(f"{part!r} is not a step or a range of steps; {_STEPS_HELP}") from None
    return tuple(steps)


def _config(options: argparse.Namespace) -> Config:
    typed = {name: value for name, value in vars(options).items() if value is not None}
    for name in ("command", "config", "quick"):
        typed.pop(name, None)
    chosen = read_toml(options.config) if options.config else {}
    is_quick = bool(chosen.pop("quick", False)) or options.quick
    config = config_of(chosen | typed)
    return quick(config) if is_quick else config


def _run(options: argparse.Namespace) -> int:
    from bench.leaderboard import print_run
    from bench.report import write_report
    from bench.results import read_results
    from bench.run import run

    config = _config(options)
    folder = run(config)
    results = read_results(folder.path)
    page = write_report(results)
    print_run(results)
    print(f"\nresults in {folder.path}, report: {page}")
    return 0


def _leaderboard(options: argparse.Namespace) -> int:
    from bench.leaderboard import print_comparison, print_run
    from bench.results import read_results

    runs = [read_results(path) for path in options.run]
    if len(runs) == 1:
        print_run(runs[0])
    else:
        print_comparison(runs)
    return 0


def _report(options: argparse.Namespace) -> int:
    from bench.report import write_report
    from bench.results import read_results

    results = read_results(options.run)
    print(write_report(results))
    if options.poster:
        from bench.poster import write_poster

        print(write_poster(results, options.poster))
    return 0


def _parity(options: argparse.Namespace) -> int:
    from bench.parity import print_parity

    within = print_parity(replace(_DEFAULT, model=options.model, engine=options.engine), options.items)
    return 0 if within else 1


def _export(options: argparse.Namespace) -> int:
    from bench.study import model_spec
    from engines.backends.onnxruntime import OPSET
    from engines.export import SHIPPED_GRAPHS, graph_of
    from engines.load import load
    from extract.taps import self_attention_taps

    unet = load(model_spec(options.model).source).unet
    print(graph_of(unet, self_attention_taps(unet), OPSET, options.graphs))
    print(f"graphs in {SHIPPED_GRAPHS} are used without tracing")
    return 0


def _card(options: argparse.Namespace) -> int:
    from bench.card import print_card

    print_card(options.limit, options.sheet)
    return 0


def _list(_: argparse.Namespace) -> int:
    from bench.resolve import KINDS, plugins

    for kind in KINDS:
        print(f"{kind}s")
        for name, summary in plugins(kind).items():
            print(f"  {name:<14}{summary}")
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from bench.doctor import print_doctor

    return print_doctor()


if __name__ == "__main__":
    sys.exit(main())
