"""The findings across models as sentences, each with its intervals and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.across.agreement import OTHER_ITEM, OTHER_SEED, SAME
from bench.across.comparison import Across
from bench.across.contrasts import SEED
from bench.across.order import OnsetDifference
from bench.across.transfer import FIRST, OWN, AtLevel
from extract.networks import CLEAN, INPUT, TRAINED
from probes.multiple_testing import RATE

NAMES = {TRAINED: "activations", INPUT: "the latent itself", CLEAN: "the predicted clean latent"}
"""Network -> what its probes read."""
ANY = "any"


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
    """Yield whether models share the final labels of an item, and from which noise level on."""
    tasks = dict.fromkeys(row.task for row in result.agreements)
    for task in tasks:
        rows = [row for row in result.agreements if row.task == task]
        (metric,) = {row.metric for row in rows[:1]}
        of_metric = [row for row in rows if row.metric == metric]
        held = sum(row.holds for row in of_metric)
        yield (
            f"{task}: final labels of two models agree more than every control in {held} of "
            f"{len(of_metric)} pairs, at a false discovery rate of {100 * RATE:.0f} %"
        )
    for row in result.at_levels:
        if row.level == FIRST and row.unlike == ANY and row.network == TRAINED:
            latent, clean = (
                next(
                    (
                        other
                        for other in result.at_levels
                        if (other.task, other.level, other.unlike, other.network)
                        == (row.task, FIRST, ANY, network)
                    ),
                    None,
                )
                for network in (INPUT, CLEAN)
            )
            yield _first_step(row, latent, clean)


def is_shared(row: AtLevel) -> bool:
    """Whether the reading predicts the other model's label beyond both controls."""
    return row.gain.low > 0


def _first_step(row: AtLevel, latent: AtLevel | None, clean: AtLevel | None) -> str:
    verdict = "share" if is_shared(row) else "do not share, as far as is seen,"
    said = (
        f"{row.task}, first step: models {verdict} the label of an item: one model's probes of "
        f"activations predict the other's final label with {row.metric} "
        f"{row.scores[SAME]} (their own model's {row.scores[OWN].mean:.3f}; the other's of "
        f"another seed {row.scores[OTHER_SEED].mean:.3f}, of another item "
        f"{row.scores[OTHER_ITEM].mean:.3f}; gain over the stronger {row.gain})"
    )
    for other in (latent, clean):
        if other is not None:
            said += f"; {NAMES[other.network]} {other.scores[SAME]}, gain {other.gain}"
    return said
