"""The command line that is derived from the options of a run."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import fields
from typing import Any

from bench.config import COMMAND, RENAMED, Config, Option


def flag(name: str) -> str:
    """Return an option as it is typed, such as ``--sampler-steps``."""
    return f"--{name.replace('_', '-')}"


class _Renamed(argparse.Action):
    """Refuse an option by its former name."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """End with a sentence."""
        parser.error(f"{flag(self.dest)} is now {flag(RENAMED[self.dest])}")


def add_options(parser: argparse.ArgumentParser, *chosen: str, **help_texts: str) -> None:
    """Add options of a run to a command, by default all of them.

    Their default is None, so that only what was typed overrides a configuration file.
    ``help_texts`` replaces help texts, by option.
    """
    for entry in fields(Config):
        details: Option = entry.metadata["option"]
        if chosen and entry.name not in chosen and details.beside not in chosen:
            continue
        text = help_texts.get(entry.name, details.help)
        if details.parse is None:
            # A flag without a default can also be turned off.
            action = argparse.BooleanOptionalAction if entry.default is None else "store_true"
            parser.add_argument(flag(entry.name), action=action, default=None, help=text)
        else:
            parser.add_argument(
                flag(entry.name), type=details.parse, metavar=details.metavar, help=text
            )
    for name, now in RENAMED.items():
        if not chosen or now in chosen:
            parser.add_argument(
                flag(name),
                action=_Renamed,
                dest=name,
                nargs="?",
                default=argparse.SUPPRESS,
                help=argparse.SUPPRESS,
            )


def typed_options(options: argparse.Namespace, *left_out: str) -> dict[str, Any]:
    """Return the options that were typed, without the command's own."""
    own = ("command", *left_out)
    return {k: value for k, value in vars(options).items() if value is not None and k not in own}


def run_command(config: Config) -> str:
    """Return the command that repeats a run; without ``--out``, where the run is finished."""
    words = []
    for entry in fields(Config):
        value = getattr(config, entry.name)
        if value == entry.default or entry.name == "out":
            continue
        typed = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        if isinstance(value, bool):
            words.append(flag(entry.name if value else f"no_{entry.name}"))
        elif typed.startswith("-"):
            # A separate value that starts with a dash would be taken for another option.
            words.append(f"{flag(entry.name)}={typed}")
        else:
            words += [flag(entry.name), typed]
    return " ".join([COMMAND, "run", shlex.join(words)]).strip()
