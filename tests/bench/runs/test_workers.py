"""A run of several ranks or parts has the scores of one process, also after crashes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import main
from bench.config import Config
from bench.errors import UserError
from bench.run import run
from bench.runs.calls import read_calls
from bench.runs.results import Results, read_results
from bench.runs.workers import Merger, Workers, part_of

ROOT = Path(__file__).parents[3]
OPTIONS = {
    "engine": "torch_eager",
    "limit": 24,
    "sampler_steps": 2,
    "layers": ("mid",),
    "random_networks": 0,
    "threads": 1,
    "shard": 4,
}
ENDS_WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return read_results(
        run(Config(**OPTIONS, out=str(tmp_path_factory.mktemp("alone") / "run"))).path
    )


def arguments(out: Path) -> list[str]:
    words = ["-m", "bench", "run", "--out", str(out)]
    for name, value in OPTIONS.items():
        words += [
            f"--{name.replace('_', '-')}",
            ",".join(value) if isinstance(value, tuple) else str(value),
        ]
    return words


def torchrun(out: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        *arguments(out),
    ]


def same_bits(one: Results, other: Results) -> bool:
    return all(
        np.array_equal(task.scores, other.tasks[name].scores, equal_nan=True)
        for name, task in one.tasks.items()
    )


def wait_for(condition: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


@pytest.mark.slow
def test_two_ranks_give_the_same_bits_and_one_of_them_speaks(
    alone: Results, tmp_path: Path
) -> None:
    done = subprocess.run(torchrun(tmp_path / "run"), cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"report: ") == 1
    # A progress bar is drawn on one line.
    assert sum(b"generating" in line for line in done.stderr.split(b"\n")) == 1
    both = read_results(tmp_path / "run")
    assert same_bits(alone, both)
    assert (both.world, both.processes, both.threads) == (2, 2, 1)
    assert (alone.world, alone.processes, alone.threads) == (1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_rank_ends_the_other_in_a_sentence_and_the_rerun_goes_on(
    victim: int, alone: Results, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    workers = [
        subprocess.Popen(
            [sys.executable, *arguments(tmp_path / "run")],
            cwd=ROOT,
            env={**shared, "RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    shards = tmp_path / "run" / "shards"
    try:
        wait_for(lambda: list(shards.rglob("*.safetensors")), 120)
        workers[victim].send_signal(signal.SIGKILL)
        _, said = workers[1 - victim].communicate(timeout=ENDS_WITHIN_SECONDS)
    finally:
        for process in workers:
            process.kill()
            process.communicate()
    assert workers[1 - victim].returncode == 2
    (sentence,) = [line for line in said.splitlines() if line.startswith("bench:")]
    assert "has ended" in sentence
    assert "run the same command again" in sentence
    assert "Traceback" not in said
    kept = {path: path.stat().st_mtime_ns for path in shards.rglob("*.safetensors")}
    assert kept
    assert main(arguments(tmp_path / "run")[2:]) == 0
    assert same_bits(alone, read_results(tmp_path / "run"))


@pytest.mark.slow
def test_torchrun_ends_within_bounds_when_a_rank_is_killed(tmp_path: Path) -> None:
    launcher = subprocess.Popen(
        torchrun(tmp_path / "run"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: list((tmp_path / "run" / "shards").rglob("*.safetensors")), 120)
        second = [
            c for c in psutil.Process(launcher.pid).children() if c.environ().get("RANK") == "1"
        ]
        second[0].kill()
        _, said = launcher.communicate(timeout=ENDS_WITHIN_SECONDS)
    finally:
        if launcher.poll() is None:
            launcher.terminate()
            launcher.communicate()
    assert launcher.returncode != 0
    assert sum(line.startswith("bench:") for line in said.splitlines()) == 1
    assert not (tmp_path / "run" / "run.json").exists()


def test_parts_and_a_merge_give_the_same_bits(
    alone: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = arguments(out)[2:]
    assert main([*command, "--part", "1/2"]) == 0
    said = capsys.readouterr().out
    assert (
        "part 1/2 has made its shards of the training images; other parts have yet to make" in said
    )
    made = set(out.rglob("*.safetensors"))
    # It does not wait, and makes nothing twice.
    assert main([*command, "--part", "1/2"]) == 0
    assert set(out.rglob("*.safetensors")) == made
    assert main(["merge", str(out)]) == 2
    assert "shards of the training images are missing" in capsys.readouterr().err
    # The last fold is a single shard, which is the first part's.
    with pytest.raises(UserError, match=r"part 2/2 has made its shards of the last fold"):
        run(Config(**OPTIONS, out=str(out)), part_of("2/2"))
    with pytest.raises(UserError, match=r"part 1/2 has made its shards of the test images"):
        run(Config(**OPTIONS, out=str(out)), part_of("1/2"))
    assert main([*command, "--part", "2/2"]) == 0
    assert f"bench merge {out}" in capsys.readouterr().out
    assert not (out / "run.json").exists()
    assert main(["merge", str(out)]) == 0
    merged = read_results(out)
    assert same_bits(alone, merged)
    # Four processes made shards and the fifth generated nothing; the cost is that of all.
    assert merged.processes == 5
    assert merged.record.seconds > read_calls(out)[:, 3].sum()


def test_two_copies_of_one_part_do_not_work_in_a_folder_and_other_parts_do(
    alone: Results, tmp_path: Path
) -> None:
    from bench.runs.folder import RunFolder

    folder = RunFolder(Path(shutil.copytree(alone.path, tmp_path / "run")))
    with part_of("1/2").keep(folder):
        with part_of("2/2").keep(folder):
            pass
        for other in (part_of("1/2"), Workers(), Merger()):
            with pytest.raises(UserError, match="another run is writing"), other.keep(folder):
                pass


@given(world=st.integers(1, 9), count=st.integers(0, 40))
def test_every_shard_has_one_maker(world: int, count: int) -> None:
    for index in range(count):
        assert [rank for rank in range(world) if Workers(rank, world).makes(index)] == [
            index % world
        ]
        assert not Merger().makes(index)


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_what_names_no_part_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="third of eight"):
        part_of(text)


def test_a_merge_of_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err
