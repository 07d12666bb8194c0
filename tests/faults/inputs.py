"""Malformed inputs from a seeded generator: CSV files of prompts, TOML files, command lines."""

from __future__ import annotations

import csv
import io
import shlex
import shutil
from collections.abc import Callable, Iterator
from random import Random

from tests.faults.disk import EDIT
from tests.faults.mistakes import MISTAKES
from tests.faults.process import ended
from tests.faults.runs import World
from tests.faults.shards import flipped, junk, truncated
from tests.faults.verdict import Row, Trial, refused_or, row

SMALL = ("--sampler-steps", "1", "--layers", "mid", "--random-networks", "0", "--threads", "1")
PIECES = (
    *(b'"', b'""', b",", b",,", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b";"),
    *(b"\t", b"-1", b"1.5", b"nan", b"prompt", b"seed", b"dev", b"../x", b"9" * 30, b"'"),
    *(b"x" * 140_000, b"\xe2\x80\xa8", b"=1+1", b" "),
)
FIELDS: dict[str, tuple[str, ...]] = {
    "prompt": ("", "   ", "\0", "a, b\n", "\ud83c\udf0d" * 3, "x" * 5000),
    "seed": ("", "-1", "1.0", "9" * 25, "0x10", "１２", "one", "1e3", "nan", " 7 "),
    "split": ("", "dev", "TRAIN", "train test", "0", "tes"),
    "id": ("", "../x", "a/b", "a b", "00", ".", "-", "é", "x" * 101),
}
"""Column -> wrong or unusual values."""

VALUES = (
    *("-1", "0", "1.5", "nan", "-inf", "true", "'x'", "''", "[]", "[1]", "[0]", "['x']"),
    *("[['x']]", "{}", "{a=1}", "1979-05-27", "'a\\u0000b'", "'../x'", "[-1]", "[nan]"),
    *("'/proc/nothing'", "99999999999999999999", "1e300", "[1, 1, 'x']", "'tiny'", "'all'"),
    "[true]",
)
"""TOML values for any option."""
HUGE = ("99999999999999999999",)
LONG = ("random_networks", "limit")
"""Options for which a large number is a valid request of a long job."""


def malformed_inputs(world: World, prompts: int, options: int) -> Iterator[Row]:
    """Malformed files of prompts, configurations and command lines."""
    yield row("malformed prompts (CSV)", _prompts(world, prompts))
    yield row("malformed configurations (TOML)", _configurations(world, options // 3))
    yield row("malformed command lines", _lines(world, options - options // 3))


def _prompts(world: World, count: int) -> Iterator[Trial]:
    valid = _csv()
    for number in range(count):
        path, out = world.fresh("prompts").with_suffix(".csv"), world.fresh("prompted")
        kind, content = _malformed(valid, world.rng, number)
        path.write_bytes(content)
        outcome = ended(["run", *SMALL, "--dataset", str(path), "--out", str(out)])
        # Some changes, such as a comma within a prompt's quotes, leave a valid file.
        yield Trial(f"{kind}: {content[:60]!r}", outcome, refused_or(lambda _: None, outcome))
        path.unlink()
        shutil.rmtree(out, ignore_errors=True)


def _csv() -> bytes:
    """The prompts of a small run."""
    from datasets.sets.scenes617 import DATASET

    items = DATASET.items()
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["id", "prompt", "seed", "split"])
    writer.writerows(
        [item.id, item.prompt, item.seed, item.split] for item in (*items[:10], *items[-2:])
    )
    return stream.getvalue().encode()


def _malformed(valid: bytes, rng: Random, number: int) -> tuple[str, bytes]:
    kinds: tuple[Callable[[bytes, Random], bytes], ...] = (
        *(_field, _piece, _field, truncated, _header, flipped),
        *(_field, junk, _shorter, _piece, _utf16, _latin),
    )
    kind = kinds[number % len(kinds)]
    return kind.__name__.strip("_"), kind(valid, rng)


def _piece(valid: bytes, rng: Random) -> bytes:
    index = rng.randrange(len(valid))
    return valid[:index] + rng.choice(PIECES) + valid[index + rng.randrange(3) :]


def _field(valid: bytes, rng: Random) -> bytes:
    rows = list(csv.reader(io.StringIO(valid.decode(), newline="")))
    column = rng.choice(list(FIELDS))
    rows[rng.randrange(1, len(rows))][rows[0].index(column)] = rng.choice(FIELDS[column])
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8", "surrogatepass")


def _header(valid: bytes, rng: Random) -> bytes:
    head = rng.choice(
        [
            b"",
            b"text",
            b"prompt,prompts",
            b"prompt;seed",
            b'"prompt',
            b"id,seed,split",
            b"prompt,seed,id,id",
        ]
    )
    return head + b"\n" + valid.split(b"\n", 1)[1]


def _shorter(valid: bytes, rng: Random) -> bytes:
    """Too few prompts of one split or of both."""
    lines = valid.splitlines(keepends=True)
    return b"".join(lines[: rng.randrange(1, len(lines) - 2)])


def _utf16(valid: bytes, rng: Random) -> bytes:
    return valid.decode().encode(rng.choice(["utf-16", "utf-32", "utf-16-be"]))


def _latin(valid: bytes, rng: Random) -> bytes:
    return valid.replace(b"a", "ä".encode("latin-1"), rng.randint(1, 9))


def _configurations(world: World, count: int) -> Iterator[Trial]:
    from dataclasses import fields

    from bench.config import Config

    names = [entry.name for entry in fields(Config) if entry.name != "out"]
    for _ in range(count):
        path, out = world.fresh("options").with_suffix(".toml"), world.fresh("configured")
        name = world.rng.choice([*names, "quick", "limits", "model.name", "a b", '""'])
        value = world.rng.choice(
            [value for value in VALUES if name not in LONG or value not in HUGE]
        )
        text = world.rng.choice(
            ["{} = {}\n"] * 6
            + ["{} {}", "[{}]\n{} = 1", "{0} = {1}\n{0} = {1}", "{} = [{}", "{} = '{}\n"]
        )
        content = text.format(name, value).encode()
        if world.rng.random() < 0.1:
            content = junk(content, world.rng)
        path.write_bytes(content)
        # The options of a small run that the file does not set.
        small = [
            word
            for pair in zip(SMALL[::2], SMALL[1::2], strict=True)
            if pair[0][2:].replace("-", "_") != name
            for word in pair
        ]
        limit = [] if name == "limit" else ["--limit", "24"]
        outcome = ended(["run", *small, *limit, "--config", str(path), "--out", str(out)])
        yield Trial(repr(content), outcome, refused_or(lambda _: None, outcome))
        shutil.rmtree(out, ignore_errors=True)


def _lines(world: World, count: int) -> Iterator[Trial]:
    lines = list(_typed(world))
    # Mistakes of every command are all tried; the rest are options of a run.
    for arguments in (*lines, *(_mistyped(world) for _ in range(count - len(lines)))):
        out = world.fresh("typed")
        if arguments[:1] == ["run"] and "--out" not in arguments:
            arguments = [*arguments, "--out", str(out)]
        outcome = ended(arguments)
        yield Trial(" ".join(arguments), outcome, refused_or(lambda _: None, outcome))
        shutil.rmtree(out, ignore_errors=True)


def _typed(world: World) -> Iterator[list[str]]:
    """Command lines with errors in every command."""
    words = {
        "RUN": ["run", "--limit", "24", *SMALL],
        "FOLDER": [str(world.finished)],
        "EDIT": ["intervene", str(world.finished), *EDIT],
        "NOT-UTF-8": ["\udcff.csv"],
    }
    for line in MISTAKES.splitlines():
        yield [word for typed in shlex.split(line) for word in words.get(typed, [typed])]


def _mistyped(world: World) -> list[str]:
    """One option of ``run`` with an invalid value."""
    from dataclasses import fields

    from bench.config import Config

    names = [
        entry.name.replace("_", "-")
        for entry in fields(Config)
        if entry.name not in ("out", "fetch")
    ]
    name = world.rng.choice(names)
    value = world.rng.choice(
        [
            "-1",
            "0",
            "x",
            "",
            "1.5",
            "nan",
            "1e99",
            ",",
            "1,,x",
            "\udc80",
            "-",
            "--",
            "a b",
            "\u2028",
            "9" * 20,
        ]
    )
    if name.replace("-", "_") in LONG:
        value = "x"
    return ["run", "--limit", "24", *SMALL, f"--{name}={value}"]
