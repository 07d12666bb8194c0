"""What a dataset's training and test items share, in words."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from bench.config import Config
from bench.errors import UserError
from bench.study import dataset_of
from datasets.items import Item
from datasets.leaks import THRESHOLD, crosses, leaks_of


def print_audit(config: Config, threshold: float | None, show: int) -> int:
    """Print counts and examples; 1 when a test item's prompt, or nearly, is also a training item's."""
    limit = THRESHOLD if threshold is None else threshold
    if not 0 < limit <= 1:
        raise UserError(f"--threshold must be above 0 and at most 1, not {limit:g}")
    _, items = dataset_of(config)
    counts = Counter(item.split for item in items)
    found = leaks_of(items, limit)
    print(
        f"{config.dataset}: {len(items)} items, {counts['train']} training and {counts['test']} test"
    )
    for what, groups in (("prompt", found.prompts), ("seed", found.seeds)):
        across = [group for group in groups if crosses(group)]
        print(
            f"equal {what}s: {sum(len(group) for group in groups)} items in {len(groups)} groups, "
            f"{len(across)} of them across the split"
        )
        for group in (across or list(groups))[:show]:
            print(
                f"  {_named(group)}: {_short(group[0].prompt if what == 'prompt' else str(group[0].seed))}"
            )
    print(
        f"nearly equal prompts across the split: {len(found.near)} pairs "
        f"(cosine of 3- to 5-letter TF-IDF of at least {limit:g})"
    )
    for pair in found.near[:show]:
        print(f"  {pair.similarity:.3f} train {pair.train.id}: {_short(pair.train.prompt)}")
        print(f"        test  {pair.test.id}: {_short(pair.test.prompt)}")
    print(
        f"test items whose prompt, or nearly, is also a training item's: {found.crossing} of {counts['test']}"
    )
    return 1 if found.crossing else 0


def _named(group: Sequence[Item]) -> str:
    names = ", ".join(f"{item.split} {item.id}" for item in group[:4])
    return names if len(group) <= 4 else f"{names} and {len(group) - 4} more"


def _short(text: str) -> str:
    return textwrap.shorten(text, 90, placeholder="...")
