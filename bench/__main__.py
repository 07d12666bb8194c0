"""``python -m bench``: the command line. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import NoReturn

import bench.commands
from bench.errors import UserError

_PIPE_CLOSED = 128 + 13
"""Exit code after SIGPIPE, as shells give it."""
_RENAMED = {"recipe": "adam-vs-ridge"}
"""Former command -> the present one."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code, which is 2 after a sentence about a user error."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    if typed and typed[0] in _RENAMED:
        return _refused(f"the command {typed[0]} is now {_RENAMED[typed[0]]}")
    try:
        # Before the commands are imported: their options name things of our package.
        _refuse_foreign_datasets()
        # Some values are refused here, such as files that could not be written after the work.
        options, unknown = _parser().parse_known_args(typed)
    except UserError as error:
        return _refused(str(error))
    if unknown:
        return _refused(f"unknown: {shlex.join(unknown)}; {_help_of(options)} lists the options")
    try:
        code = int(options.command(options))
        # A reader that has left shows here, not when Python ends.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _PIPE_CLOSED
    except KeyboardInterrupt:
        hint = "; the same command continues from here" if _resumes(options) else ""
        print(f"\nstopped{hint}", file=sys.stderr)
        return 130
    except UserError as error:
        return _refused(str(error))
    except Exception as error:
        from bench.errors import user_errors

        if isinstance(error, user_errors()):
            return _refused(str(error))
        if memory := _exhausted(error):
            return _refused(
                f"{memory} has too little free memory ({error}); lower --batch, choose fewer "
                "--layers or --steps, or give --width 512; python -m bench plan shows what a run "
                "needs"
            )
        raise


def _exhausted(error: Exception) -> str | None:
    """What has run out of memory; None if that is not the error."""
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return "this machine"
    # Not imported for it: an error of torch's own kind is raised by a torch that is.
    torch = sys.modules.get("torch")
    return "the GPU" if torch and isinstance(error, torch.OutOfMemoryError) else None


def _help_of(options: argparse.Namespace) -> str:
    """The command that prints the options of the one that was typed."""
    # Not before the check of our package: the configuration names things of it.
    from bench.config import COMMAND

    command = options.command.__module__.rpartition(".")[2].replace("_", "-")
    return " ".join([COMMAND, command, *filter(None, [getattr(options, "action", None)]), "--help"])


def _resumes(options: argparse.Namespace) -> bool:
    """Whether the command keeps finished work and continues it; most have little to keep."""
    resumes = getattr(sys.modules[options.command.__module__], "resumes", None)
    return resumes is not None and bool(resumes(options))


def _refused(sentence: str) -> int:
    print(f"bench: {' '.join(sentence.split())}", file=sys.stderr)
    return 2


def _refuse_foreign_datasets() -> None:
    """Raise UserError when HuggingFace's package of the same name would be imported."""
    spec = find_spec("datasets")
    expected = Path(__file__).parent.parent / "datasets"
    origin = spec.origin if spec else None
    if origin is None or Path(origin).parent.resolve() != expected.resolve():
        raise UserError(
            f"'import datasets' finds {origin or 'nothing'}, not scenebench's own package in "
            f"{expected}; use a separate environment, without HuggingFace's datasets"
        )


class _Version(argparse.Action):
    """Prints the installed version, which is looked up only here."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print it and end."""
        from bench.environment import versions

        print(f"scenebench {versions().get('scenebench', 'of a folder that is not installed')}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"bench: {message}; {self.prog} --help lists the options\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m bench", description="Linear probes on diffusion models, with controls."
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
    for entry in iter_modules(bench.commands.__path__):
        module = import_module(f"bench.commands.{entry.name}")
        summary = str(module.__doc__).partition("\n")[0].rstrip(".")
        command = commands.add_parser(
            entry.name.replace("_", "-"),
            help=summary[0].lower() + summary[1:],
            description=module.__doc__,
        )
        module.arguments(command)
        command.set_defaults(command=module.command)
    return parser


if __name__ == "__main__":
    sys.exit(main())
