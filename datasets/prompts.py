"""A user's prompts: a CSV file with a column ``prompt`` and optionally ``seed``, ``split``, ``id``.

UTF-8, commas, the first line names the columns; other columns are ignored. A file that ends in
``.tsv`` has tabs instead of commas, and one that ends in ``.txt`` has a prompt in every line and no
names of columns; the suffix may be in capitals. Missing values are drawn
from the prompt alone, so that adding, deleting or reordering lines changes no item with another
prompt; where a prompt occurs several times, each time has another seed. A prompt
without a split is a training item with a probability of 40 %, as in the paper (246 of 617);
prompts that differ in case or spacing only get the same split.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from datasets.errors import DatasetError
from datasets.items import Item, Split

TRAIN_SHARE = 0.4
COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "prompts"),
    "seed": ("seed", "seeds"),
    "split": ("split",),
    "id": ("id", "ids", "prompt_inds"),
}
"""Value -> accepted column names; ``prompt_inds`` is the id column of the paper's files."""
LARGEST_SEED = 2**63 - 1
"""The largest seed of a torch generator."""
SUFFIXES = (".csv", ".tsv", ".txt")
"""Of files of prompts, in any case."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Line:
    """One record of a file; None where the file has no such column."""

    number: int
    """Number of the line where the record starts, from 1."""
    prompt: str
    seed: int | None
    split: Split | None
    id: str | None


def is_prompt_file(name: str) -> bool:
    """Whether the name of a dataset is a file of prompts."""
    return name.casefold().endswith(SUFFIXES)


def read_prompts(path: Path) -> tuple[Item, ...]:
    """Read the items of a file. Raises DatasetError, with the line, for an invalid one."""
    seen: dict[str, int] = {}
    unseeded: Counter[str] = Counter()
    items = []
    for line in read_lines(path):
        if line.seed is None:
            seed = drawn_seed(line.prompt, unseeded[line.prompt])
            unseeded[line.prompt] += 1
        else:
            seed = line.seed
        name = drawn_id(line.prompt, seed, seen) if line.id is None else line.id
        if not _ID.fullmatch(name):
            raise DatasetError(
                f"{path}, line {line.number}: the id {_shown(name)} may hold letters, digits, "
                "'.', '_' and '-' only, for it names files; rename it"
            )
        if name in seen:
            raise DatasetError(
                f"{path}, line {line.number}: the id {name} stands on line {seen[name]} already; "
                "rename one"
            )
        seen[name] = line.number
        items.append(Item(name, line.prompt, seed, line.split or drawn_split(line.prompt)))
    return tuple(items)


def read_lines(path: Path) -> list[Line]:
    """Read the records of a file. Raises DatasetError with the line of the first error."""
    text = _text(path)
    if path.suffix.casefold() == ".txt":
        return _plain_lines(path, text)
    records = _records(path, text)
    number, header = next(records, (1, []))
    names = [name.strip().casefold() for name in header]
    indices: dict[str, int] = {}
    for column, aliases in COLUMNS.items():
        matches = [index for index, name in enumerate(names) if name in aliases]
        if len(matches) > 1:
            raise DatasetError(
                f"{path}, line {number}: two columns give the {column}; keep one of them"
            )
        if matches:
            indices[column] = matches[0]
    if "prompt" not in indices:
        raise DatasetError(
            f"{path}, line {number}: there is no column 'prompt', "
            f"only {_shown(', '.join(names))}; the first line names the columns"
        )
    lines = [_line(path, number, record, len(names), indices) for number, record in records]
    if not lines:
        raise DatasetError(f"{path} holds no prompt below its first line; add some")
    return lines


def _plain_lines(path: Path, text: str) -> list[Line]:
    """A prompt in every line that is not blank."""
    prompts = [(number, line.strip()) for number, line in enumerate(re.split(r"\r\n?|\n", text), 1)]
    lines = [Line(number, prompt, None, None, None) for number, prompt in prompts if prompt]
    if not lines:
        raise DatasetError(f"{path} holds no prompt; write one in every line")
    return lines


def _line(path: Path, number: int, record: list[str], width: int, indices: dict[str, int]) -> Line:
    where = f"{path}, line {number}"
    if len(record) < width:
        raise DatasetError(
            f"{where}: {len(record)} values for {width} columns; add what is missing, or take a "
            f"column that has no values out of the first line (it may end with {_mark(path)})"
        )
    if len(record) > width:
        raise DatasetError(
            f"{where}: {len(record)} values for {width} columns; "
            f"put a prompt that holds {_mark(path)} between quotes"
        )

    def value(column: str) -> str | None:
        return record[indices[column]].strip() if column in indices else None

    prompt, seed, split = record[indices["prompt"]], value("seed"), value("split")
    if not prompt.strip():
        raise DatasetError(f"{where}: the prompt is empty; write one or delete the line")
    if seed is not None and not (re.fullmatch(r"[0-9]{1,19}", seed) and int(seed) <= LARGEST_SEED):
        raise DatasetError(
            f"{where}: the seed {_shown(seed)} is not a whole number from 0 to 2^63 - 1; "
            "mend it or delete the column"
        )
    if split is not None and split not in ("train", "test"):
        raise DatasetError(
            f"{where}: the split {_shown(split)} is neither train nor test; "
            "mend it or delete the column"
        )
    return Line(number, prompt, None if seed is None else int(seed), _split(split), value("id"))


def _split(name: str | None) -> Split | None:
    return "train" if name == "train" else "test" if name == "test" else None


def _text(path: Path) -> str:
    try:
        stored = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DatasetError(
            f"cannot read the prompts {path}: {reason}; give a file of {_kind(path)}"
        ) from error
    try:
        # With or without the byte order mark of spreadsheets.
        text = stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = stored.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path}, line {line}: this is not UTF-8; save it as {_kind(path)} in UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DatasetError(
            f"{path}, line {line}: there is a NUL byte; save it as {_kind(path)} in UTF-8"
        )
    return text


def _kind(path: Path) -> str:
    """The format that the suffix promises, as programs name it when they save a file."""
    formats = {".txt": "plain text", ".tsv": "tab-separated values"}
    return formats.get(path.suffix.casefold(), "CSV")


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and the values of every record that is not blank."""
    mark = _delimiter(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(
                f"{path}, line {start}: {error}; check its quotes and {_mark(path)}"
            ) from error
        if any(value.strip() for value in record):
            yield start, record


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.casefold() == ".tsv" else ","


def _mark(path: Path) -> str:
    return "tabs" if _delimiter(path) == "\t" else "commas"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def drawn_split(prompt: str) -> Split:
    """The split of a prompt whose file has none."""
    drawn = _draw("split", " ".join(prompt.casefold().split()))
    return "train" if drawn < TRAIN_SHARE * 2**64 else "test"


def drawn_seed(prompt: str, before: int = 0) -> int:
    """The seed, below 2^31, of a prompt whose file has none.

    ``before`` counts the earlier lines of the file with the same prompt and no seed.
    """
    return _draw("seed", f"{prompt}\n{before}" if before else prompt) % 2**31


def drawn_id(prompt: str, seed: int, taken: Container[str]) -> str:
    """The id of an item whose file has none.

    Blocks are cut in the order of ids. Ids in file order would put prompts of one topic into a
    block, and labels permuted within it would still carry the topic.
    """
    name = f"{_draw('id', f'{seed} {prompt}'):016x}"[:10]
    names = chain([name], (f"{name}-{number}" for number in count(2)))
    return next(free for free in names if free not in taken)


def _draw(purpose: str, text: str) -> int:
    """A hash of ``text``, 64 bits, different for each ``purpose``."""
    # Text from a TOML file or the command line may hold surrogates, which UTF-8 lacks.
    digest = hashlib.blake2b(
        text.encode("utf-8", "surrogatepass"), digest_size=8, person=purpose.encode()
    )
    return int.from_bytes(digest.digest(), "big")
