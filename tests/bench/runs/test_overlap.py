"""What a run says of its items: cut prompts, texts that become one, and what crosses the split."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.config import Config
from bench.options.validation import read_record
from bench.runs.folder import CONFIG, open_folder
from bench.runs.overlap import overlap_of
from bench.runs.records import StoredConfig
from bench.study import open_study
from datasets.items import Item
from engines.components import Components

HEAD = "a red sphere on a sand floor with a blue wall and light from the left " * 2


def test_cut_prompts_are_counted_and_items_that_become_one_text_are_named(
    components: Components,
) -> None:
    items = [
        Item(f"i{n}", f"{HEAD}and {n}", 7 + n // 2, "test" if n % 2 else "train") for n in range(4)
    ]
    items.append(Item("other", "a cyan box on a snow floor", 7, "test"))
    overlap = overlap_of(items, components)
    tokens = components.parts["tokenizer"].model_max_length
    assert (overlap.items, overlap.test_items, overlap.words) == (5, 3, tokens)
    assert overlap.cut == 4
    assert overlap.same_text == ("i0", "i1", "i2", "i3")
    assert overlap.same_text_across == 2
    # i0 with i1, and i2 with i3, have one text and one seed.
    assert overlap.same_image == ("i1", "i3")
    said = " ".join(overlap.sentences)
    assert f"4 of 5 prompts are longer than the {tokens} tokens" in said
    assert "(i0, i1, i2, i3)" in said
    assert "2 of 3 test items have the text and the seed of a training item" in said
    # The encoder agrees: one embedding.
    text = components.embed([item.prompt for item in items[:4]])["text"]
    assert (text == text[:1]).all()


def test_equal_prompts_with_equal_seeds_are_named_without_a_cut(components: Components) -> None:
    items = [
        Item("a", "a red sphere", 1, "train"),
        Item("b", "a red sphere", 1, "test"),
        Item("c", "a red sphere", 2, "test"),
        Item("d", "a cyan box on a snow floor", 3, "test"),
    ]
    overlap = overlap_of(items, components)
    assert (overlap.cut, overlap.same_text, overlap.same_image) == (0, (), ("b",))
    assert (overlap.equal, overlap.near) == (2, 0)
    assert (overlap.equal_items, overlap.near_items) == (("b", "c"), ())


def test_a_set_without_any_fault_is_not_commented(components: Components) -> None:
    items = [
        Item("a", "a red sphere", 1, "train"),
        Item("b", "a cyan box on a snow floor", 1, "test"),
    ]
    assert overlap_of(items, components).sentences == []


@pytest.mark.slow
def test_the_shipped_set_takes_under_a_second(components: Components) -> None:
    from datasets.sets.scenes617 import DATASET

    items = DATASET.items()
    started = time.process_time()
    overlap_of(items, components)
    assert time.process_time() - started < 1


def test_the_shipped_set_says_what_crosses_its_split(components: Components) -> None:
    from datasets.sets.scenes617 import DATASET

    overlap = overlap_of(DATASET.items(), components)
    assert (overlap.cut, overlap.same_text, overlap.same_image) == (0, (), ())
    (sentence,) = overlap.sentences
    assert sentence.startswith("338 of 371 test prompts equal (52) or nearly equal (286)")


def test_it_is_said_and_stored_when_a_run_starts_and_not_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "long.csv"
    rows = [f"{HEAD}and {n},{'test' if n > 2 else 'train'},7" for n in range(5)]
    file.write_text("\n".join(["prompt,split,seed", *rows]))
    study = open_study(Config(dataset=str(file), threads=1, sampler_steps=2))
    open_folder(tmp_path / "run", study)
    said = capsys.readouterr().err.splitlines()
    stored = read_record(StoredConfig, tmp_path / "run" / CONFIG).overlap
    assert stored is not None
    assert stored.cut == 5
    assert said == [f"note: {sentence}" for sentence in stored.sentences]
    open_folder(tmp_path / "run", study)
    assert capsys.readouterr().err == ""
