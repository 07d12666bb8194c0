"""Model folders with missing or damaged files, wrong configurations or invalid weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.process import ended
from tests.faults.runs import World, run
from tests.faults.shards import flipped, junk, truncated
from tests.faults.verdict import Row, Trial, done, first, refused_or, row

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
"""Wrong values for a key of a configuration."""

UNSUPPORTED: tuple[tuple[str, str, Any], ...] = (
    ("model_index.json", "vae", ["diffusers", "AutoencoderTiny"]),
    ("model_index.json", "transformer", ["diffusers", "SD3Transformer2DModel"]),
    ("scheduler/scheduler_config.json", "prediction_type", "flow_prediction"),
    ("unet/config.json", "dual_cross_attention", True),
    ("unet/config.json", "in_channels", 9),
    ("unet/config.json", "sample_size", [12, 16]),
)
"""A file, its key, and a value of a kind of model that is not supported."""


_PER_TRACE = 5
"""One of so many lawful architectures is also traced for ONNX Runtime, which takes minutes."""


def damaged_models(world: World, count: int) -> Iterator[Row]:
    """Damage to every file, invalid weights, then ``count`` wrong configurations."""
    from engines.models.tiny import MODEL

    source = Path(MODEL.source)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    damaged = chain.from_iterable(_file_changes(name, world.rng) for name in files)
    yield row("model folders: nothing wrong (the control of those below)", _sound(world, source))
    yield row(
        "model folders: a file missing, cut short or junk",
        _trials(world, source, damaged, world.unlike),
    )
    weights = [name for name in files if name.suffix == ".safetensors"]
    broken = chain.from_iterable(_weight_changes(name, world.rng) for name in weights)
    yield row(
        "model folders: weights of NaN, of other shapes, missing",
        _trials(world, source, broken, _refused_only),
    )
    yield row("model folders: kinds that are not supported", _unsupported(world, source))
    configs = [
        name
        for name in files
        if name.name in ("config.json", "model_index.json", "scheduler_config.json")
    ]
    wrong = [_key_change(world.rng.choice(configs), source, world.rng) for _ in range(count)]
    quick = ("--sampler-steps", "1")
    traced = wrong[::_PER_TRACE]
    others = [change for change in wrong if change not in traced]
    yield row(
        "model folders: wrong values in a configuration",
        chain(
            _trials(world, source, traced, lambda _: None, quick),
            _trials(world, source, others, lambda _: None, (*quick, "--engine", "torch_eager")),
        ),
    )


def _sound(world: World, source: Path) -> Iterator[Trial]:
    """An undamaged folder runs, so that the others are refused for their damage."""
    out = world.fresh("modelled")
    outcome = ended(_run(out, source))
    yield Trial("an undamaged folder", outcome, first(done(outcome), world.unlike(out)))
    shutil.rmtree(out, ignore_errors=True)


def _unsupported(world: World, source: Path) -> Iterator[Trial]:
    """With weights of the model and random ones, and never with the advice for damage."""
    for file, key, value in UNSUPPORTED:
        change = _with_key(Path(file), source, key, value)
        for options in ((), ("--weights", "random")):
            for trial in _trials(
                world, source, [(f"{file}: {key} {value}", change)], _refused_only, options
            ):
                said = trial.sentence or ""
                named = "is not supported: " in said and "again" not in said
                wrong = first(trial.wrong, None if named else "it is not said to be unsupported")
                yield Trial(trial.name, trial.outcome, wrong)


def _with_key(name: Path, source: Path, key: str, value: Any) -> Change:
    stored = json.loads((source / name).read_text()) | {key: value}
    return lambda folder: _replace(folder / name, json.dumps(stored).encode())


def _run(out: Path, model: Path, *options: str) -> list[str]:
    # A folder has no default labeler and guidance.
    return run(out, "--model", str(model), "--labeler", "tiny", "--guidance", "3", *options)


def _refused_only(_: Path) -> str:
    return "it ran on invalid weights"


def _trials(
    world: World,
    source: Path,
    changes: Iterable[tuple[str, Change]],
    check: Callable[[Path], str | None],
    options: tuple[str, ...] = (),
) -> Iterator[Trial]:
    for name, change in changes:
        # Links, since copying the weights takes longer than reading them.
        model = Path(shutil.copytree(source, world.fresh("model"), copy_function=os.link))
        out = world.fresh("modelled")
        change(model)
        outcome = ended(_run(out, model, *options))
        yield Trial(name, outcome, refused_or(lambda _, out=out: check(out), outcome))  # type: ignore[misc]
        shutil.rmtree(model)
        shutil.rmtree(out, ignore_errors=True)


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
    """Flip a bit in the header; a flipped bit in a weight gives another valid weight."""
    content = path.read_bytes()
    return flipped(content[:120], rng) + content[120:]


def _weight_changes(name: Path, rng: Random) -> Iterator[tuple[str, Change]]:
    """Files that can be read, with weights of no network."""
    for value in (float("nan"), float("inf")):
        yield (
            f"{name} {value}",
            lambda folder, value=value: _reweighted(folder / name, rng, value),
        )  # type: ignore[misc]
    yield f"{name} lacks a tensor", lambda folder: _reweighted(folder / name, rng, None)
    yield f"{name} of another shape", lambda folder: _reweighted(folder / name, rng, ())


def _reweighted(path: Path, rng: Random, value: float | tuple[()] | None) -> None:
    """Change one tensor: drop it, reshape it, or set one entry."""
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
    """Remove or rename one key of a configuration, or set a wrong value."""
    stored = json.loads((source / name).read_text())
    key = rng.choice(sorted(key for key in stored if not key.startswith("_")))
    value = rng.choice([wrong for wrong in WRONG if wrong != stored[key]])
    kind = rng.choice(["gone", "renamed", "wrong", "wrong", "wrong"])
    changed = {other: entry for other, entry in stored.items() if other != key}
    if kind == "renamed":
        changed[f"{key}s"] = stored[key]
    elif kind == "wrong":
        changed[key] = value
    description = f"{name}: {key} {kind}{f', {value!r}' if kind == 'wrong' else ''}"
    return description, lambda folder: _replace(folder / name, json.dumps(changed).encode())
