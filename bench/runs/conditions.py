"""What has to be equal for the scores of two runs to be comparable, and where runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engines.cache import key_of

if TYPE_CHECKING:
    from bench.runs.results import Results
    from bench.study import Study
    from datasets.items import Item

Conditions = Mapping[str, str | int | float]

LABELER, LABELER_WEIGHTS = "labeler", "weights of the labeler"
MODEL_WEIGHTS = "weights of the model"
SOURCE, TEST_ITEMS, TRAINING_ITEMS = "source", "test items", "training items"
_OF_LABELS = (LABELER, LABELER_WEIGHTS, SOURCE, TEST_ITEMS)
"""Where runs differ in these, their scores are measured against other labels or other images."""
_FACTS = (LABELER, LABELER_WEIGHTS, SOURCE, "sampler_steps", "guidance")
"""Conditions that are facts of every run, so that those of earlier versions have them too."""


def conditions_of(study: Study) -> dict[str, str | int | float]:
    """Return the conditions of a run, for its ``run.json``."""
    facts = study.brief_facts
    splits = {
        name: [
            [item.id, item.prompt, item.seed]
            for item in sorted((x for block in blocks for x in block.items), key=lambda x: x.id)
        ]
        for name, blocks in ((TRAINING_ITEMS, study.train), (TEST_ITEMS, study.test))
    }
    return {
        **{name: facts[name] for name in _FACTS},
        "dataset": study.config.dataset,
        **{
            name: f"{len(items)} (hash {key_of({name: items})[:8]})"
            for name, items in splits.items()
        },
        "sampler": study.components.sampler_class,
        "precision": study.backend.precision,
    }


def item_key(item: Item) -> str:
    """Return a short hash of what determines an item's image: its prompt and its seed."""
    return key_of({"prompt": item.prompt, "seed": item.seed})[:16]


def stored_conditions(results: Results) -> Conditions:
    """Return the conditions of a finished run, of earlier versions as far as they are known."""
    known = {name: results.facts[name] for name in _FACTS if name in results.facts}
    return known | results.record.conditions


def differences(runs: Sequence[Results]) -> dict[str, list[str]]:
    """Conditions in which runs differ -> the value of every run; '?' where it is not known."""
    stored = [stored_conditions(results) for results in runs]
    found = {}
    for name in dict.fromkeys(name for conditions in stored for name in conditions):
        values = [conditions.get(name) for conditions in stored]
        if len({value for value in values if value is not None}) > 1:
            found[name] = ["?" if value is None else str(value) for value in values]
    if not any(name in found for name in (TEST_ITEMS, TRAINING_ITEMS)):
        # The same items under another name, such as a copy of the file.
        found.pop("dataset", None)
    return found


def of_labels(differing: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The differences that make scores incomparable: of labels and of test images."""
    return {name: values for name, values in differing.items() if name in _OF_LABELS}
