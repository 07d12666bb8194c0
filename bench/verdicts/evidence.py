"""Make the runs and experiments that claims need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.config import Config, config_of, default_of
from bench.errors import UserError
from bench.interventions.config import Plan, completed
from bench.interventions.experiment import experiment
from bench.interventions.runner import open_editable
from bench.model import chosen_components, model_spec
from bench.registry import plugin
from bench.run import run
from bench.runs.folder import RunFolder
from bench.runs.results import Results, read_results
from bench.steps import numbers_of
from bench.verdicts.claim import Claim
from extract.networks import CONVOLUTION

ITEMS = 310
"""Items of a run unless ``--limit`` is given: half of the shipped set."""
EDIT_METHODS = ("weights", "pattern")
"""Both directions of a linear probe: the one that reads, and the one that activations vary along.
The iterative edit through a ridge probe is left out, since it changes nothing at any strength."""


def configs(claims: Sequence[Claim], model: str, typed: Mapping[str, Any]) -> list[Config]:
    """Return the fewest runs of a model that have what all claims need.

    Options of several claims are united; those of generated and of rendered images stay apart.
    """
    by_source: dict[str, list[Mapping[str, Any]]] = {}
    for claim in claims:
        by_source.setdefault(claim.options.get("source", "generated"), []).append(claim.options)
    merged = []
    for source, options in by_source.items():
        united: dict[str, Any] = {"limit": ITEMS, "model": model, "source": source}
        if source == "generated":
            united["tasks"] = default_of("tasks")
        for needed in options:
            for name, value in needed.items():
                if isinstance(value, tuple):
                    united[name] = tuple(dict.fromkeys((*united.get(name, ()), *value)))
                elif isinstance(value, int):
                    united[name] = max(united.get(name, 0), value)
        merged.append(config_of(united | dict(typed)))
    return merged


def possible(config: Config) -> Config:
    """Leave out convolutions as a baseline where a model has none; a claim is undecided then."""
    if CONVOLUTION not in config.baselines:
        return config
    if chosen_components(config, model_spec(config.model), drawn=False).convolutions:
        return config
    return replace(
        config, baselines=tuple(name for name in config.baselines if name != CONVOLUTION)
    )


def make_runs(
    claims: Sequence[Claim],
    models: Sequence[str],
    typed: Mapping[str, Any],
    items: int,
    shifts: int,
) -> list[Results]:
    """Run what the claims need on every model, or read it where it exists.

    ``items`` and ``shifts`` are those of the intervention experiments.
    """
    chosen = [(model, config) for model in models for config in configs(claims, model, typed)]
    edits = any(claim.kind == "interventions" for claim in claims)
    for model, config in chosen:
        model_spec(model)
        last = plugin("task", Plan().task).last_edited_step
        if edits and config.sampler_steps < last:
            raise UserError(
                f"claims about edits change steps 1 to {last}; give --sampler-steps of at least "
                f"{last}, or name other claims"
            )
    finished = []
    for _, config in chosen:
        results = read_results(run(possible(config)).path)
        finished.append(results)
        if config.source == "generated" and edits:
            _edit(results, config, items, shifts)
    return finished


def _edit(results: Results, config: Config, items: int, shifts: int) -> None:
    plan = Plan(methods=EDIT_METHODS, items=items, shifts=shifts, choose_items=max(2, items // 2))
    plan = completed(plan, results.layers, numbers_of(results.steps), results.config.sampler_steps)
    editable = open_editable(results, config.threads)
    with RunFolder(results.path).locked():
        experiment(editable, plan)
