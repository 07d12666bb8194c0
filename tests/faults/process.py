"""Commands in child processes, for fault injection.

Most are forked and call the command line's ``main``, so that nothing is imported again.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from tests.faults.verdict import Outcome

ROOT = Path(__file__).parents[2]
LONGEST_SECONDS = 300
"""Time after which a command is taken to hang; most take a few seconds."""
_POLL_SECONDS = 0.002

Prepare = Callable[[], None]


@dataclass(slots=True)
class Child:
    """A started command."""

    pid: int
    streams: Path
    """Folder with its output and error streams."""
    code: int | None = None

    def ended(self) -> bool:
        """Whether it has ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def wait(
        self, until: Callable[[], bool] = lambda: False, seconds: float = LONGEST_SECONDS
    ) -> bool:
        """Wait for its end, ``until`` or ``seconds``; return whether it has ended."""
        end = time.monotonic() + seconds
        while not self.ended() and not until() and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        return self.code is not None

    def kill(self) -> None:
        """Kill it, as in a power failure."""
        if not self.ended():
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def outcome(self) -> Outcome:
        """Its outcome; it is killed if it hangs."""
        if not self.wait():
            self.kill()
        assert self.code is not None
        printed, error = (
            (self.streams / name).read_text(errors="replace") for name in ("out", "err")
        )
        return Outcome(self.code, printed, error)


def start(
    arguments: Sequence[str],
    prepare: Prepare = lambda: None,
    program: Sequence[str] = (),
    folder: Path | None = None,
) -> Child:
    """Start ``python -m bench`` with these arguments, forked, or ``program`` with them."""
    streams = Path(mkdtemp(dir=folder or os.environ["TMPDIR"]))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return Child(pid, streams)
    code = 70
    try:
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(streams / name, os.O_CREAT | os.O_WRONLY), number)
        os.chdir(ROOT)
        prepare()
        if program:
            os.execv(sys.executable, [sys.executable, *program, *arguments])
        code = _main(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(arguments: Sequence[str], prepare: Prepare = lambda: None) -> Outcome:
    """The outcome of ``python -m bench`` with these arguments."""
    return start(arguments, prepare).outcome()


def _main(arguments: Sequence[str]) -> int:
    """Run the command line as ``python -m bench`` does."""
    from bench.__main__ import main

    try:
        return main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1


def warm_up() -> None:
    """Import the commands' modules once, for all forked processes."""
    import diffusers
    import onnxruntime
    import torch
    import transformers

    import bench.interventions.experiment
    import bench.regression.compare
    import bench.report.html
    import bench.report.tables
    import bench.run
    import bench.runs.workers

    _ = (diffusers.AutoencoderKL, diffusers.LMSDiscreteScheduler, diffusers.UNet2DConditionModel)
    _ = (
        transformers.CLIPTextModel,
        transformers.CLIPTokenizer,
        transformers.CLIPTextModelWithProjection,
    )
    _ = (onnxruntime.InferenceSession, bench.run)
    # Threads do not survive a fork.
    torch.set_num_threads(1)
    gc.freeze()
