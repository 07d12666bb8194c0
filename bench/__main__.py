"""``python -m bench``: the command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

import bench.commands
from bench.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it did what was asked, 2 with one sentence when it could not."""
    options = _parser().parse_args(arguments)
    try:
        _refuse_a_foreign_datasets()
        return int(options.command(options))
    except KeyboardInterrupt:
        print(
            "\nstopped" + ("; the same command goes on from here" if _goes_on(options) else ""),
            file=sys.stderr,
        )
        return 130
    except UserError as error:
        return _say(error)
    except Exception as error:
        from bench.errors import mistakes

        if isinstance(error, mistakes()):
            return _say(error)
        raise


def _goes_on(options: argparse.Namespace) -> bool:
    """Whether the command keeps what it has made and finds it again; most make nothing that is worth it."""
    goes_on = getattr(sys.modules[options.command.__module__], "goes_on", None)
    return goes_on is not None and bool(goes_on(options))


class _Version(argparse.Action):
    """Prints the installed version; looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and end."""
        from bench.environment import versions

        print(f"scenebench {versions().get('scenebench', 'of a folder that is not installed')}")
        parser.exit()


def _say(error: Exception) -> int:
    print(f"bench: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


def _refuse_a_foreign_datasets() -> None:
    """HuggingFace's package of the same name must not be found in place of ours."""
    spec = find_spec("datasets")
    ours = Path(__file__).parent.parent / "datasets"
    if spec is None or spec.origin is None or Path(spec.origin).parent.resolve() != ours.resolve():
        raise UserError(
            f"'import datasets' finds {spec.origin if spec else 'nothing'}, not scenebench's own package in {ours}; "
            "use an environment of its own, without HuggingFace's datasets"
        )


class _Parser(argparse.ArgumentParser):
    """A parser whose refusals are one sentence, as all others are: the usage is what --help is for."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bench: {message}; {self.prog} --help says what there is\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m bench",
        description="What does a diffusion model know about the scene it is generating, where, and from when on?",
    )
    # Suppressed: every command would find a version among its options.
    quiet = argparse.SUPPRESS
    parser.add_argument(
        "--version",
        action=_Version,
        nargs=0,
        dest=quiet,
        default=quiet,
        help="print the version and end",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for found in iter_modules(bench.commands.__path__):
        module = import_module(f"bench.commands.{found.name}")
        summary = str(module.__doc__).partition("\n")[0].rstrip(".")
        command = commands.add_parser(
            found.name, help=summary[0].lower() + summary[1:], description=module.__doc__
        )
        module.arguments(command)
        command.set_defaults(command=module.command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
