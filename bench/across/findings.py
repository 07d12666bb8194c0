"""The findings across models as sentences, each with its intervals and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.across.agreement import MEAN, OTHER_ITEM, OTHER_SEED, SAME
from bench.across.comparison import Across
from bench.across.contrasts import SEED
from bench.across.order import OnsetDifference
from bench.across.transfer import ANY, OWN, AtLevel
from extract.networks import CLEAN, INPUT, TRAINED
from probes.multiple_testing import RATE

NAMES = {TRAINED: "activations", INPUT: "the latent itself", CLEAN: "the predicted clean latent"}
"""Network -> what its probes read."""


def sentences(result: Across) -> list[str]:
    """Return what the summary says."""
    return [
        *_of_models(result),
        *result.shared.notes,
        *difference_sentences(result),
        *order_sentences(result.group_order),
        *sharing_sentences(result),
    ]


def _of_models(result: Across) -> Iterator[str]:
    names = ", ".join(model.name for model in result.shared.models)
    yield (
        f"{len(result.shared.models)} models on {len(result.shared.items)} shared test items: "
        f"{names}"
    )


def difference_sentences(result: Across) -> Iterator[str]:
    """Yield per contrast how many differences there are, and the largest one."""
    contrasts = list(dict.fromkeys(row.contrast for row in result.differences))
    for contrast in contrasts:
        rows = [row for row in result.differences if row.contrast == contrast]
        better = [row for row in rows if row.is_significant and row.difference.value.mean > 0]
        worse = [row for row in rows if row.is_significant and row.difference.value.mean < 0]
        over = "" if contrast.what == SEED else _interval_words(rows[0].difference.over_seeds)
        yield (
            f"{contrast.what}, {contrast.words}: better in {len(better)}, worse in {len(worse)} "
            f"of {len(rows)} scores at equal noise levels{over}"
        )


def _interval_words(over_seeds: bool) -> str:
    if over_seeds:
        return "; intervals include the spread over seeds"
    return "; intervals are over images alone: these networks"


def order_sentences(rows: Sequence[OnsetDifference]) -> Iterator[str]:
    """Yield for each pair of groups, or of attributes, in how many models which one is first."""
    pairs = list(dict.fromkeys((row.first, row.second) for row in rows))
    for first, second in pairs:
        of_pair = [row for row in rows if (row.first, row.second) == (first, second)]
        found = Counter(row.finding for row in of_pair)
        before, after, none = (
            f"{first} before {second}",
            f"{second} before {first}",
            "no order seen",
        )
        values = "; ".join(f"{row.model} {_span(row)}" for row in of_pair)
        yield (
            f"{before} in {found[before]}, {after} in {found[after]}, no order seen in "
            f"{found[none]} of {len(of_pair)} models (onset of {first} minus that of {second}, "
            f"in log-SNR: {values})"
        )


def _span(row: OnsetDifference) -> str:
    value = row.difference
    return f"{value.mean:+.2f} [{value.low:.2f}, {value.high:.2f}]"


def sharing_sentences(result: Across) -> Iterator[str]:
    """Yield whether models share the final labels of an item, and what is read of them first."""
    if not result.readings:
        return
    for task in dict.fromkeys(row.task for row in result.agreements):
        of_task = [row for row in result.agreements if row.task == task]
        rows = [row for row in of_task if row.metric == of_task[0].metric]
        means = [[row.scores[what].mean for row in rows] for what in (SAME, OTHER_SEED, OTHER_ITEM)]
        same, seed, item = (f"{min(x):.3f} to {max(x):.3f}" for x in means)
        held = f"{sum(row.holds for row in rows)} of {len(rows)}"
        yield (
            f"{task}, final labels: {rows[0].metric} of two models {same} (other seed {seed}, "
            f"other item {item}); above every control in {held} pairs, at a false discovery rate "
            f"of {100 * RATE:.0f} %"
        )
    first = {
        (row.task, row.network): row
        for row in result.at_levels
        if row.log_snr is None and row.unlike == ANY
    }
    tasks = dict.fromkeys(task for task, _ in first)
    of_images = [task for task in tasks if result.readings[0].tasks[task].per_image]
    for task in tasks:
        if task not in of_images:
            yield _first_step(
                first[task, TRAINED], [first.get((task, name)) for name in (INPUT, CLEAN)]
            )
    if of_images:
        gains = "; ".join(f"{task} {first[task, TRAINED].gain}" for task in of_images)
        yield f"first step, gains in accuracy over the strongest control: {gains}"


def is_shared(row: AtLevel) -> bool:
    """Whether the reading predicts the other model's label beyond every control."""
    return row.gain.low > 0


def _first_step(row: AtLevel, others: Sequence[AtLevel | None]) -> str:
    verdict = "share" if is_shared(row) else "are not seen to share"
    said = (
        f"{row.task}, first step: models {verdict} the scene of an item. One model's probes of "
        f"activations predict the other's final label with {row.metric} {row.scores[SAME]} "
        f"(their own model's {row.scores[OWN].mean:.3f}; the other's of another seed "
        f"{row.scores[OTHER_SEED].mean:.3f}, of another item {row.scores[OTHER_ITEM].mean:.3f}; "
        f"the mean of its labels of other items reaches {row.scores[MEAN].mean:.3f}); "
        f"gain over the strongest of these three {row.gain}"
    )
    for other in others:
        if other is not None:
            said += f"; from {NAMES[other.network]} {other.scores[SAME]}, gain {other.gain}"
    if row.over_latent is not None:
        said += f"; activations over the latent itself {row.over_latent}"
    if row.gain_over_latent is not None:
        said += f", gains over another item compared {row.gain_over_latent}"
    return said
