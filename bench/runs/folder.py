"""The run folder: which run it belongs to, locks, checksums, and whether it is finished."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.config import Config, config_of
from bench.errors import UserError
from bench.options.validation import read_record
from bench.runs.overlap import overlap_of
from bench.runs.records import RunRecord, StoredConfig
from datasets.atomic_write import atomic_write
from engines.checksum import sha256

if TYPE_CHECKING:
    from bench.study import Study

CONFIG, RUN = "config.json", "run.json"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that holds, or will hold, the results of one run."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether the results are complete: ``run.json`` is written last."""
        return (self.path / RUN).exists()

    @contextmanager
    def locked(self, part: str | None = None) -> Iterator[None]:
        """Lock the folder against other runs; a part locks out only whole runs and itself.

        Raises UserError when another run is writing in the folder.
        """
        with ExitStack() as stack:
            self._lock(stack, ".lock", fcntl.LOCK_SH if part else fcntl.LOCK_EX)
            if part:
                self._lock(stack, f".lock-{part}", fcntl.LOCK_EX)
            yield

    def tidy(self) -> None:
        """Remove partial files of killed processes; call it only with the folder locked."""
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
                f"another run is writing in {self.path}; wait until it ends, or use another folder"
            ) from error
        except OSError as error:
            raise UserError(
                f"cannot write in {self.path} ({error.strerror}); choose another folder"
            ) from error


def default_out(study: Study) -> Path:
    """Return a folder in ``runs/`` that the same command names again, to continue its work."""
    model = Path(study.config.model).name
    return Path("runs") / f"{model}-{Path(study.config.dataset).stem}-{study.fingerprint[:8]}"


def open_folder(path: Path, study: Study) -> RunFolder:
    """Make the folder, or open the one of this run.

    Raises UserError when it holds something else or cannot be written.
    """
    stored = path / CONFIG
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not stored.exists():
            if any(not entry.name.startswith(CONFIG) for entry in path.iterdir()):
                raise UserError(f"{path} is not empty and holds no run; choose another --out")
            # Parts of a run may start at the same time; the first one writes the file.
            with (path / f"{CONFIG}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not stored.exists():
                    _write_config(stored, study)
        folder = RunFolder(path)
        _refuse_another_run(folder, read_record(StoredConfig, stored), study)
    except (OSError, ValueError) as error:
        # The message of an OSError repeats the path.
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot use {path} as the run folder ({reason}); choose another --out"
        ) from error
    return folder


def _write_config(file: Path, study: Study) -> None:
    items = [item for block in (*study.train, *study.test) for item in block.items]
    overlap = overlap_of(items, study.components)
    config = StoredConfig(
        fingerprint=study.fingerprint,
        options=asdict(study.config),
        facts=study.brief_facts,
        overlap=overlap,
        tasks=study.task_code,
    )
    with atomic_write(file) as partial:
        partial.write_text(config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for sentence in overlap.sentences:
        print(f"note: {sentence}", file=sys.stderr)


def _refuse_another_run(folder: RunFolder, stored: StoredConfig, study: Study) -> None:
    """Raise UserError unless the folder is of this run and its shards are of this size."""
    if stored.fingerprint != study.fingerprint:
        facts = study.brief_facts
        differing = ", ".join(
            name for name in {**stored.facts, **facts} if stored.facts.get(name) != facts.get(name)
        )
        raise UserError(
            f"{folder.path} holds another run (it differs in: {differing}); "
            "choose another --out or delete it"
        )
    changed = [
        name
        for name, code in study.task_code.items()
        if (stored.tasks or {}).get(name, code) != code
    ]
    if changed:
        raise UserError(
            f"{folder.path} was begun before the code of the task {changed[0]} was changed; "
            "choose another --out or delete it"
        )
    shard = stored.options.get("shard")
    if not folder.finished and shard != study.config.shard:
        raise UserError(
            f"{folder.path} was begun with --shard {shard}, and shards of another size would be "
            f"generated again; continue with --shard {shard}, or choose another --out"
        )


def stored_config(path: Path) -> Config:
    """Return the options of the run in a folder. Raises UserError when it holds none."""
    try:
        stored = read_record(StoredConfig, path / CONFIG)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no run folder: it has no readable {CONFIG}") from error
    return options_of(path, stored)


def options_of(path: Path, stored: StoredConfig) -> Config:
    """Return the options in a folder's ``config.json``. Raises UserError for unknown ones."""
    try:
        return config_of(stored.options)
    except UserError as error:
        raise UserError(f"{path / CONFIG} cannot be used: {error}") from error


def checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of those files that exist."""
    return {name: sha256(folder / name) for name in names if (folder / name).is_file()}


def refuse_changed(folder: Path, record: RunRecord, names: Iterable[str]) -> None:
    """Raise UserError when one of the files is not the one that the run wrote."""
    for name in names:
        if name not in record.sha256:
            continue
        there = (folder / name).exists()
        if not there or record.sha256[name] != sha256(folder / name):
            fault = "is not the file that the run wrote" if there else "is missing"
            raise UserError(
                f"the run folder {folder} is damaged ({name} {fault}); "
                "run its command again in another --out"
            )
