"""Rendering of training data. The package of the renderer must not be imported from here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engines.errors import EngineError


def render_set(name: str, folder: Path, *options: str) -> None:
    """Render the set ``name`` into ``folder``, unless that is done, in a process of its own.

    ``options`` are further options of ``python -m datasets.render``. Raises EngineError if the
    renderer fails, after it has said why.
    """
    renderer = (sys.executable, "-m", "datasets.render")
    done = subprocess.run(
        [*renderer, "--set", name, "--out", str(folder), *options], check=False
    ).returncode
    if done:
        raise EngineError(
            f"cannot render scenes into {folder} (the renderer ended with {done}); "
            "mend what it says above, or give another --work"
        )
