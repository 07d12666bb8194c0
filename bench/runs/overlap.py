"""What the training and test items of a run share, and the prompts that the encoder cuts.

It is computed when a run starts, which takes less than a second for 617 prompts, and stored in
``config.json``, so that every table and page of the run says it beside the scores.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.options.validation import Record
from datasets.items import Item
from datasets.leaks import crossing_tests, leaks_of, same_items, same_texts
from engines.components import Components

_NAMED = 6
"""Ids that a sentence names."""


class Overlap(Record):
    """Counts of items, and the ids of some."""

    items: int
    test_items: int
    words: int
    """Tokens that the text encoder takes."""
    cut: int
    """Items with longer prompts."""
    same_text: tuple[str, ...]
    """Ids of items whose different prompts are one text for the encoder."""
    same_text_across: int
    """Test items among them that share the text with a training item."""
    same_image: tuple[str, ...]
    """Ids of test items that have the prompt (or its text) and the seed of a training item."""
    equal: int
    """Test items whose prompt equals a training prompt."""
    near: int
    """Further test items whose prompt nearly equals a training prompt."""
    equal_items: tuple[str, ...] = ()
    near_items: tuple[str, ...] = ()
    """The ids of both; none in folders of earlier versions."""

    @property
    def sentences(self) -> list[str]:
        """What a reader of the scores has to know; empty where there is nothing."""
        said = self.text_sentences
        if self.equal + self.near:
            said.append(
                f"{self.equal + self.near} of {self.test_items} test prompts equal ({self.equal}) "
                f"or nearly equal ({self.near}) a training prompt: scores hold for images like "
                "those of training"
            )
        return said

    @property
    def text_sentences(self) -> list[str]:
        """What the text encoder makes of the prompts."""
        said = []
        if self.cut:
            said.append(
                f"{self.cut} of {self.items} prompts are longer than the {self.words} tokens that "
                "the text encoder takes, and are cut"
            )
        if self.same_text:
            said.append(
                f"{len(self.same_text)} items with different prompts are the same text for the "
                f"encoder as another ({_named(self.same_text)}); {self.same_text_across} of them "
                "are test items that share it with a training item"
            )
        if self.same_image:
            said.append(
                f"{len(self.same_image)} of {self.test_items} test items have the text and the "
                f"seed of a training item, and so its image ({_named(self.same_image)})"
            )
        return said


def overlap_of(items: Sequence[Item], components: Components) -> Overlap:
    """Audit the items of a run."""
    leaks = leaks_of(items)
    texts, words, cut = _read_texts([item.prompt for item in items], components)
    same = same_texts(items, texts)
    # Equal seeds of one text give one image, whether the prompts are equal or cut to be so.
    read = [
        Item(item.id, str(text), item.seed, item.split)
        for item, text in zip(items, texts, strict=True)
    ]
    return Overlap(
        items=len(items),
        test_items=sum(item.split == "test" for item in items),
        words=words,
        cut=cut,
        same_text=tuple(item.id for group in same for item in group),
        same_text_across=len(crossing_tests(same)),
        same_image=tuple(item.id for item in crossing_tests(same_items(read))),
        equal=len(leaks.equal),
        near=len(leaks.nearly_equal),
        equal_items=tuple(sorted(leaks.equal)),
        near_items=tuple(sorted(leaks.nearly_equal)),
    )


def _read_texts(
    prompts: Sequence[str], components: Components
) -> tuple[list[tuple[int, ...]], int, int]:
    """Return the tokens that the encoders read of every prompt, their most, and what is cut."""
    texts: list[tuple[int, ...]] = [()] * len(prompts)
    longer: set[int] = set()
    tokenizers = components.tokenizers
    for name, tokenizer in tokenizers.items():
        most = components.most_tokens(name)
        whole = tokenizer(list(prompts), verbose=False).input_ids
        read = tokenizer(list(prompts), truncation=True, max_length=most, verbose=False).input_ids
        for number, (tokens, kept) in enumerate(zip(whole, read, strict=True)):
            texts[number] += tuple(kept)
            if len(kept) < len(tokens):
                longer.add(number)
    return texts, min(components.most_tokens(name) for name in tokenizers), len(longer)


def _named(ids: Sequence[str]) -> str:
    names = ", ".join(ids[:_NAMED])
    return names if len(ids) <= _NAMED else f"{names} and {len(ids) - _NAMED} more"
