"""Model folders that lack a file, hold a damaged one, say nonsense in a configuration or have weights of NaN."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.process import ended
from tests.faults.runs import World, run
from tests.faults.shards import flipped, junk, truncated
from tests.faults.verdict import Outcome, Row, Trial, done, first, refused_or, row

Change = Callable[[Path], object]

WRONG: tuple[Any, ...] = (
    None,
    -1,
    0,
    1.5,
    10**30,
    True,
    "",
    "nonsense",
    [],
    {},
    [None],
    {"a": 1},
    [1, "x"],
)
"""What a configuration's key may hold by mistake."""


def damaged_models(world: World, count: int) -> Iterator[Row]:
    """Every file missing, cut short and of junk; weights that no network has; then ``count`` wrong configurations."""
    from engines.models.tiny import MODEL

    source = Path(MODEL.source)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    whole = chain.from_iterable(_file_changes(name, world.rng) for name in files)
    yield row("model folders: nothing wrong (the control of those below)", _sound(world, source))
    yield row(
        "model folders: a file missing, cut short or junk",
        _trials(world, source, whole, world.unlike),
    )
    weights = [name for name in files if name.suffix == ".safetensors"]
    broken = chain.from_iterable(_weight_changes(name, world.rng) for name in weights)
    yield row(
        "model folders: weights of NaN, of other shapes, missing",
        _trials(world, source, broken, _refused_only),
    )
    configs = [
        name
        for name in files
        if name.name in ("config.json", "model_index.json", "scheduler_config.json")
    ]
    wrong = [_key_change(world.rng.choice(configs), source, world.rng) for _ in range(count)]
    quick = ("--sampler-steps", "1")
    yield row(
        "model folders: wrong values in a configuration",
        _trials(world, source, wrong, lambda _: None, quick),
    )


def _sound(world: World, source: Path) -> Iterator[Trial]:
    """A folder that is as it should be runs: or all others would be refused for another reason."""
    out = world.fresh("modelled")
    outcome = ended(_run(out, source))
    yield Trial("a whole folder", outcome, first(done(outcome), world.unlike(out)))
    shutil.rmtree(out, ignore_errors=True)


def _run(out: Path, model: Path, *options: str) -> list[str]:
    # A folder names no labeler, and guidance only by default.
    return run(out, "--model", str(model), "--labeler", "tiny", "--guidance", "3", *options)


def _refused_only(_: Path) -> str:
    return "it ran on weights that are none"


def _trials(
    world: World, source: Path, changes: Iterator[tuple[str, Change]] | list[tuple[str, Change]],
    evaluator: Callable[[Path], str | None], options: tuple[str, ...] = (),
) -> Iterator[Trial]:  # fmt: skip
    for given, change in changes:
        # Links, for a copy of the weights would take longer than reading them.
        model = Path(shutil.copytree(source, world.fresh("model"), copy_function=os.link))
        out = world.fresh("modelled")
        change(model)
        outcome = ended(_run(out, model, *options))
        yield Trial(given, outcome, _judged(outcome, lambda out=out: evaluator(out)))  # type: ignore[misc]
        shutil.rmtree(model)
        shutil.rmtree(out, ignore_errors=True)


def _judged(outcome: Outcome, evaluator: Callable[[], str | None]) -> str | None:
    return refused_or(lambda _: evaluator(), outcome)


def _replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def _file_changes(name: Path, rng: Random) -> Iterator[tuple[str, Change]]:
    """Every damage of one file."""
    yield f"{name} missing", lambda folder: (folder / name).unlink()
    yield f"{name} empty", lambda folder: _replace(folder / name, b"")
    yield (
        f"{name} truncated",
        lambda folder: _replace(folder / name, truncated((folder / name).read_bytes(), rng)),
    )
    yield (
        f"{name} junk",
        lambda folder: _replace(folder / name, junk((folder / name).read_bytes(), rng)),
    )
    if name.suffix == ".json":
        yield f"{name} is a list", lambda folder: _replace(folder / name, b"[1, 2]")
    else:
        yield (
            f"{name} of another head",
            lambda folder: _replace(folder / name, _beheaded(folder / name, rng)),
        )


def _beheaded(path: Path, rng: Random) -> bytes:
    """A bit flipped in what says which tensors there are; a bit within a weight makes another weight."""
    content = path.read_bytes()
    return flipped(content[:120], rng) + content[120:]


def _weight_changes(name: Path, rng: Random) -> Iterator[tuple[str, Change]]:
    """Weights that can be read and that no network has."""
    for given, change in (("NaN", float("nan")), ("infinite", float("inf"))):
        yield (
            f"{name} {given}",
            lambda folder, change=change: _reweighted(folder / name, rng, change),
        )  # type: ignore[misc]
    yield f"{name} lacks a tensor", lambda folder: _reweighted(folder / name, rng, None)
    yield f"{name} of another shape", lambda folder: _reweighted(folder / name, rng, ())


def _reweighted(path: Path, rng: Random, value: float | tuple[()] | None) -> None:
    """Change one tensor: drop it, give it another shape, or put a number into it."""
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    name = rng.choice(
        sorted(
            name
            for name, tensor in tensors.items()
            if tensor.numel() > 1 and tensor.is_floating_point()
        )
    )
    if value is None:
        del tensors[name]
    elif isinstance(value, tuple):
        tensors[name] = torch.zeros(3, 5, 7)
    else:
        tensors[name].view(-1)[rng.randrange(tensors[name].numel())] = value
    path.unlink()
    save_file(tensors, path, metadata={"format": "pt"})


def _key_change(name: Path, source: Path, rng: Random) -> tuple[str, Change]:
    """One key of a configuration renamed, gone or of a wrong value."""
    stored = json.loads((source / name).read_text())
    key = rng.choice(sorted(key for key in stored if not key.startswith("_")))
    value = rng.choice([wrong for wrong in WRONG if wrong != stored[key]])
    kind = rng.choice(["gone", "renamed", "wrong", "wrong", "wrong"])
    changed = {other: entry for other, entry in stored.items() if other != key}
    if kind == "renamed":
        changed[f"{key}s"] = stored[key]
    elif kind == "wrong":
        changed[key] = value
    given = f"{name}: {key} {kind}{f', {value!r}' if kind == 'wrong' else ''}"
    return given, lambda folder: _replace(folder / name, json.dumps(changed).encode())
