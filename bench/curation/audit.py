"""Print the prompts and seeds that training and test items of a dataset share."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from bench.config import Config
from bench.errors import UserError
from bench.model import model_spec
from bench.runs.overlap import overlap_of
from bench.study import dataset_of
from datasets.items import Item
from datasets.leaks import THRESHOLD, crosses, leaks_of
from engines.load import load


def print_audit(
    config: Config, threshold: float | None, show: int, reads_model: bool = False
) -> int:
    """Print counts and examples; with ``reads_model`` also what the model's encoder cuts.

    Return 1 if a test item's prompt equals or nearly equals a training item's, or is the same text
    for the encoder, else 0.
    """
    limit = THRESHOLD if threshold is None else threshold
    if not 0 < limit <= 1:
        raise UserError(f"--threshold must be above 0 and at most 1, not {limit:g}")
    _, items = dataset_of(config)
    counts = Counter(item.split for item in items)
    leaks = leaks_of(items, limit)
    print(
        f"{config.dataset}: {len(items)} items, "
        f"{counts['train']} training and {counts['test']} test"
    )
    for kind, groups in (("prompt", leaks.prompts), ("seed", leaks.seeds)):
        across = [group for group in groups if crosses(group)]
        print(
            f"equal {kind}s: {sum(map(len, groups))} items in {len(groups)} groups, "
            f"{len(across)} of them across the split"
        )
        for group in (across or list(groups))[:show]:
            print(f"  {_names(group)}: {_short(str(getattr(group[0], kind)))}")
    print(
        f"nearly equal prompts across the split: {len(leaks.near)} pairs "
        f"(cosine of 3- to 5-letter TF-IDF of at least {limit:g})"
    )
    for pair in leaks.near[:show]:
        print(f"  {pair.similarity:.3f} train {pair.train.id}: {_short(pair.train.prompt)}")
        print(f"        test  {pair.test.id}: {_short(pair.test.prompt)}")
    print(
        "test items whose prompt, or nearly, is also a training item's: "
        f"{leaks.crossing} of {counts['test']}"
    )
    crossing = leaks.crossing
    if reads_model:
        overlap = overlap_of(items, load(model_spec(config.model).source))
        crossing += overlap.same_text_across
        nothing = f"every prompt fits into the {overlap.words} tokens of {config.model}"
        print("\n".join(overlap.text_sentences or [nothing]))
    return 1 if crossing else 0


def _names(group: Sequence[Item]) -> str:
    names = ", ".join(f"{item.split} {item.id}" for item in group[:4])
    return names if len(group) <= 4 else f"{names} and {len(group) - 4} more"


def _short(text: str) -> str:
    return textwrap.shorten(text, 90, placeholder="...")
