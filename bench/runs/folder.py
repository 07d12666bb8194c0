"""The run folder: which run it belongs to, who is writing in it, whether it is finished, and whether it is whole."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import UserError
from datasets.atomic_write import atomic_write

if TYPE_CHECKING:
    from bench.study import Study

CONFIG, RUN = "config.json", "run.json"


SUMS = "sha256"
"""The entry of ``run.json`` that holds file name -> SHA-256."""

_FACTS = {
    "tasks": dict, "layers": list, "steps": list, "networks": list, "guidance": int | float, "train_items": list,
    "test_items": list, "strip_prompts": list, "seconds": int | float, "peak_bytes": int, "processes": int,
    "threads": int, "world": int, SUMS: dict,
}  # fmt: skip

_OPTIONS = {"model": str, "engine": str, "batch": int, "threads": int | None}

_ENVIRONMENT = {"versions": dict, "cores": int}

_TASK = {"metrics": list, "higher_is_better": list, "unit": str}


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that holds, or will hold, the results of one run."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether all results are there: ``run.json`` is written last."""
        return (self.path / RUN).exists()

    @contextmanager
    def locked(self, part: str | None = None) -> Iterator[None]:
        """Keep a second run out of the folder while this one works in it; parts work beside other parts."""
        with ExitStack() as stack:
            self._lock(stack, ".lock", fcntl.LOCK_SH if part else fcntl.LOCK_EX)
            if part:
                self._lock(stack, f".lock-{part}", fcntl.LOCK_EX)
            yield

    def tidy(self) -> None:
        """Remove what killed processes have left half written, ours and safetensors'; for who has the folder alone."""
        for pattern in (f"{CONFIG}.*", "*.partial", ".tmp*"):
            for path in self.path.glob(pattern):
                with suppress(OSError):
                    path.unlink()

    def _lock(self, stack: ExitStack, name: str, kind: int) -> None:
        try:
            stream = stack.enter_context((self.path / name).open("w"))
        except OSError as error:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}); make it writable, or copy it"
            ) from error
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"another run is writing in {self.path}; wait for it, or choose another --out"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}); choose another folder"
            ) from error


def default_out(study: Study) -> Path:
    """``runs/`` and a name that the same command gives again, so that it finds its own unfinished work."""
    model = Path(study.config.model).name
    return Path("runs") / f"{model}-{Path(study.config.dataset).stem}-{study.fingerprint[:8]}"


def open_folder(path: Path, study: Study) -> RunFolder:
    """Make the folder, or recognise it as this run's own.

    Raises UserError when it holds something else or cannot be written.
    """
    stored = path / CONFIG
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not stored.exists():
            if any(not entry.name.startswith(CONFIG) for entry in path.iterdir()):
                raise UserError(f"{path} is not empty and holds no run; choose another --out")
            # Parts of a run come at the same time, and the first says whose folder it is.
            with (path / f"{CONFIG}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not stored.exists():
                    _describe(stored, study)
        found = json.loads(stored.read_text(encoding="utf-8"))
        folder = RunFolder(path)
        _recognise(folder, found, study)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"cannot use {path} as the run folder ({error}); choose another --out"
        ) from error
    return folder


def _describe(stored: Path, study: Study) -> None:
    """Write whose folder it is, whole or not at all."""
    described = {
        "fingerprint": study.fingerprint,
        "options": asdict(study.config),
        "facts": study.brief_facts,
    }
    with atomic_write(stored) as partial:
        partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _recognise(folder: RunFolder, found: dict[str, Any], study: Study) -> None:
    """Raise UserError unless the folder is of this run, and its shards, if it has some, of this size."""
    options, ours = found["options"], study.brief_facts
    if found["fingerprint"] != study.fingerprint:
        theirs = found["facts"]
        differing = ", ".join(
            name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)
        )
        raise UserError(
            f"{folder.path} holds another run (it differs in: {differing}); choose another --out or delete it"
        )
    if not folder.finished and options["shard"] != study.config.shard:
        raise UserError(
            f"{folder.path} was begun with --shard {options['shard']}, and shards of another size would be generated "
            f"anew; go on with --shard {options['shard']}, or choose another --out"
        )


def stored_options(path: Path) -> dict[str, Any]:
    """The options of the run whose folder this is. Raises UserError when it is none."""
    try:
        options: dict[str, Any] = json.loads((path / CONFIG).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no run folder: it has no readable {CONFIG}") from error
    return options


def sums_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """The checksums of files, those that are there."""
    return {name: _sum(folder / name) for name in names if (folder / name).is_file()}


def refuse_changed(folder: Path, facts: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise UserError when one of the files is not the one that the run wrote."""
    known = facts[SUMS]
    for name in names:
        if name in known and known[name] != _sum(folder / name):
            raise UserError(
                f"the run folder {folder} is damaged ({name} is not the file that the run wrote); "
                "run its command again in another --out"
            )


def _sum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def refuse_malformed(options: Any, environment: Any, facts: Any) -> None:
    """Raise ValueError when one of a run's three records lacks what tables are made of, or has it in another form."""
    for what, found, wanted in (
        ("the options", options, _OPTIONS),
        ("the environment", environment, _ENVIRONMENT),
        ("run.json", facts, _FACTS),
    ):
        _refuse(what, found, wanted)
    for name, task in facts["tasks"].items():
        _refuse(f"task {name}", task, _TASK)
        _refuse_entries(f"the metrics of {name}", task["metrics"], str)
        _refuse_entries(f"higher_is_better of {name}", task["higher_is_better"], bool)
        if len(task["higher_is_better"]) != len(task["metrics"]):
            raise ValueError(
                f"{name} has {len(task['metrics'])} metrics, and more or fewer directions"
            )
    for name in ("tasks", "layers", "steps", "networks", "test_items"):
        _refuse_entries(name, facts[name], int if name == "steps" else str)
    _refuse_entries("strip_prompts", facts["strip_prompts"] or [""], str)
    _refuse_entries("versions", list(environment["versions"].values()), str)


def _refuse(what: str, found: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{what} is no object")
    for name, kind in wanted.items():
        # True and false are whole numbers to Python.
        if name not in found or not isinstance(found[name], kind) or isinstance(found[name], bool):
            raise ValueError(f"{what} has no {name} of the right form")


def _refuse_entries(what: str, found: Iterable[Any], kind: type) -> None:
    entries = list(found)
    if not entries or any(type(entry) is not kind for entry in entries):
        raise ValueError(f"{what} holds nothing, or something of another form")
