"""The run folder: which run it belongs to, who is writing in it, and whether it is finished."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import MistakeError

if TYPE_CHECKING:
    from bench.study import Study

CONFIG, RUN = "config.json", "run.json"


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
            raise MistakeError(
                f"cannot write in {self.path} ({error.strerror}); make it writable, or copy it"
            ) from error
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
        except OSError as error:
            raise MistakeError(
                f"another run is writing in {self.path}; wait for it, or choose another --out"
            ) from error


def default_out(study: Study) -> Path:
    """``runs/`` and a name that the same command gives again, so that it finds its own unfinished work."""
    model = Path(study.config.model).name
    return Path("runs") / f"{model}-{Path(study.config.dataset).stem}-{study.fingerprint[:8]}"


def open_folder(path: Path, study: Study) -> RunFolder:
    """Make the folder, or recognise it as this run's own.

    Raises MistakeError when it holds something else or cannot be written.
    """
    options = asdict(study.config)
    try:
        path.mkdir(parents=True, exist_ok=True)
        stored = path / CONFIG
        if stored.exists():
            found = json.loads(stored.read_text(encoding="utf-8"))
            if found["fingerprint"] != study.fingerprint:
                differing = [name for name, value in found["options"].items() if value != _plain(options.get(name))]
                what = (
                    ", ".join(name for name in differing if name != "out")
                    or "the model, the labeler or a package version"
                )
                raise MistakeError(
                    f"{path} holds another run (it differs in: {what}); choose another --out or delete it"
                )
        elif any(not entry.name.startswith(CONFIG) for entry in path.iterdir()):
            raise MistakeError(f"{path} is not empty and holds no run; choose another --out")
        # Whole or not at all: another part of the same run may be reading it.
        partial = path / f"{CONFIG}.{os.getpid()}"
        partial.write_text(
            json.dumps({"fingerprint": study.fingerprint, "options": options}, indent=2) + "\n",
            encoding="utf-8",
        )
        partial.replace(stored)
    except (OSError, ValueError, KeyError) as error:
        raise MistakeError(f"cannot use {path} as the run folder ({error}); choose another --out") from error
    return RunFolder(path)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def stored_options(path: Path) -> dict[str, Any]:
    """The options of the run whose folder this is. Raises MistakeError when it is none."""
    try:
        options: dict[str, Any] = json.loads((path / CONFIG).read_text(encoding="utf-8"))["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MistakeError(f"{path} is no run folder: it has no readable {CONFIG}") from error
    return options
