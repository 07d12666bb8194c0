"""The names that notebooks import from ``bench``."""

from __future__ import annotations

import subprocess
import sys

import pytest


def output(code: str) -> str:
    """Run code in a fresh interpreter, where nothing is imported yet."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


BEFORE = ("", "import bench.run", "from bench.run import run as other", "import bench.run as m")
NAMES = "from bench import Config, read_run, run\nprint(run.__name__, Config.__name__)"
BY_PATH = (
    "import bench.run, importlib; m = importlib.import_module('bench.run'); "
    "print(type(m).__name__, m.run is bench.run)"
)


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """Run each code where nothing of bench is imported yet, and return what each printed.

    One interpreter runs them all, and forgets bench before each: torch is imported only once.
    """
    codes = [*(f"{before}\n{NAMES}" for before in BEFORE), BY_PATH]
    return output(
        "import sys\n"
        f"for code in {codes!r}:\n"
        "    for name in [name for name in sys.modules if name.partition('.')[0] == 'bench']:\n"
        "        del sys.modules[name]\n"
        "    exec(code, {})\n"
    ).splitlines()


@pytest.mark.parametrize("before", BEFORE)
def test_run_is_the_function_whatever_was_imported_before(before: str, printed: list[str]) -> None:
    assert printed[BEFORE.index(before)] == "run Config"


def test_the_module_of_the_same_name_is_found_by_its_path(printed: list[str]) -> None:
    assert printed[len(BEFORE) :] == ["module True"]


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, bench; print({'torch', 'numpy', 'pydantic'} & sys.modules.keys())"
    assert output(code) == "set()"


def test_other_names_are_refused() -> None:
    import bench

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = bench.nothing
