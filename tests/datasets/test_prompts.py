"""CSV files of prompts: contents, defaults, and messages for errors."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.errors import DatasetError
from datasets.items import Item
from datasets.prompts import TRAIN_SHARE, drawn_seed, drawn_split, is_prompt_file, read_prompts

PROMPTS = [
    'a "quoted" cup',
    "one, two",
    "<b>bold</b> &amp; plain",
    "черный кот 富田店 ☕",
    "two\nlines",
    " spaces ",
]


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "prompts.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_every_text_that_pythons_writer_writes_comes_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "prompts", "seeds", "split", "note"])
        for index, prompt in enumerate(PROMPTS):
            split = "test" if index % 2 else "train"
            writer.writerow([f"p{index}", prompt, index, split, "ignored"])
    items = read_prompts(path)
    assert items == tuple(
        Item(f"p{index}", prompt, index, "test" if index % 2 else "train")
        for index, prompt in enumerate(PROMPTS)
    )


def test_names_follow_from_prompt_and_seed_and_not_from_the_place(tmp_path: Path) -> None:
    lines = [f"a cup,{seed}" for seed in range(20)] + ["a cat,1", "a cat,1"]

    def read(lines: list[str]) -> set[tuple[str, int, str]]:
        path = written(tmp_path, "\n".join(["prompt,seed", *lines]))
        return {(item.prompt, item.seed, item.id) for item in read_prompts(path)}

    items = read(lines)
    assert items == read(lines[::-1])
    assert len({name for *_, name in items}) == 22
    by_name = sorted(items, key=lambda item: item[2])
    seeds = [seed for prompt, seed, _ in by_name if prompt == "a cup"]
    assert seeds != sorted(seeds)


def test_a_file_of_prompts_alone_is_enough(tmp_path: Path) -> None:
    first, second = read_prompts(written(tmp_path, "prompt\na cup\n\na cat\n"))
    assert (first.prompt, second.prompt) == ("a cup", "a cat")
    assert first.id != second.id
    assert first.seed == drawn_seed("a cup") != second.seed
    assert first.split == drawn_split("a cup")


def test_a_repeated_prompt_has_another_seed_each_time(tmp_path: Path) -> None:
    items = read_prompts(written(tmp_path, "prompt\na cup\na cat\na cup\na cup\n"))
    cups = [item.seed for item in items if item.prompt == "a cup"]
    assert cups[0] == drawn_seed("a cup")
    assert len({item.seed for item in items}) == len({item.id for item in items}) == 4
    without_the_cat = read_prompts(written(tmp_path, "prompt\na cup\na cup\na cup\n"))
    assert [item.seed for item in without_the_cat] == cups


def test_other_lines_change_neither_seed_nor_split(tmp_path: Path) -> None:
    prompts = [f"prompt number {number}" for number in range(60)]
    items = read_prompts(written(tmp_path, "\n".join(["prompt", *prompts])))
    fewer = read_prompts(written(tmp_path, "\n".join(["prompt", *prompts[::-3]])))
    assert len(fewer) == 20
    assert {(item.prompt, item.seed, item.split) for item in fewer} < {
        (item.prompt, item.seed, item.split) for item in items
    }


def test_two_prompts_in_five_are_for_training() -> None:
    share = sum(drawn_split(f"prompt {number}") == "train" for number in range(5000)) / 5000
    assert share == pytest.approx(TRAIN_SHARE, abs=4 * (0.24 / 5000) ** 0.5)


def test_a_prompt_in_another_case_has_the_same_split() -> None:
    assert all(drawn_split(f"A  Cup {n}") == drawn_split(f"a cup {n} ") for n in range(50))


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    assert read_prompts(written(tmp_path, "\ufeffPrompt\r\na cup\r\n"))[0].prompt == "a cup"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "line 1: there is no column 'prompt'"),
        ("text,seed\na,1\n", "line 1: there is no column 'prompt', only 'text, seed'"),
        ("prompt\n", "holds no prompt"),
        ("prompt,prompts\na,b\n", "two columns give the prompt"),
        ("prompt,seed\na cup,1\n ,2\n", "line 3: the prompt is empty"),
        ("prompt,seed\na cup,1\na cat,\n", "line 3: the seed '' is not a whole number"),
        ("prompt,seed\na cup,1.0\n", "line 2: the seed '1.0'"),
        ("prompt,seed\na cup,-1\n", "line 2: the seed '-1'"),
        ("prompt,seed\na cup,9223372036854775808\n", "from 0 to 2^63 - 1"),
        ("prompt,seed\na cup,１２\n", "is not a whole number"),
        (
            "prompt,split\na cup,train\na cat,dev\n",
            "line 3: the split 'dev' is neither train nor test",
        ),
        ("id,prompt\nx,a cup\ny,a cat\nx,a dog\n", "line 4: the id x stands on line 2 already"),
        ("id,prompt\n../x,a cup\n", "line 2: the id '../x'"),
        ("id,prompt\n,a cup\n", "line 2: the id ''"),
        ("prompt,seed\na cup, on a table,1\n", "line 2: 3 values for 2 columns"),
        ('prompt,seed\n"two\nlines",1\na cat,x\n', "line 4: the seed 'x'"),
        ('prompt\n"open\n', "line 2: unexpected end of data"),
        ('prompt\n"a"b\n', "line 2: "),
        (b"prompt\na cup\na c\x00t\n", "line 3: there is a NUL byte"),
        ("prompt\nein Käse\n".encode("latin-1"), "line 2: this is not UTF-8"),
        ("prompt\na cup\n".encode("utf-16"), "this is not UTF-8"),
        ("prompt\n" + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
    ],
)
def test_a_mistake_is_named_in_one_sentence_with_its_line(
    tmp_path: Path, text: str | bytes, sentence: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DatasetError) as caught:
        read_prompts(path)
    message = str(caught.value)
    assert str(path) in message
    assert sentence in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["nowhere.csv", ".", "a\0b.csv"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="cannot read the prompts"):
        read_prompts(tmp_path / name)


PIECES = [
    "prompt",
    "seed",
    "split",
    "id",
    "train",
    "test",
    "1",
    "-1",
    '"',
    '""',
    ",",
    "\n",
    "\r",
    "\0",
    "\ufeff",
    "é",
    " ",
]


@pytest.mark.parametrize(
    "stored",
    [
        st.binary(max_size=200),
        st.lists(st.sampled_from(PIECES), max_size=40).map(lambda words: "".join(words).encode()),
    ],
    ids=["bytes", "pieces"],
)
def test_any_bytes_are_items_or_refused_in_words(
    tmp_path: Path, stored: st.SearchStrategy[bytes]
) -> None:
    @settings(
        max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(
        st.sampled_from([b"", b"prompt\n", b"prompt,seed\n", b"id,prompt,split\n"]),
        stored,
    )
    def check(header: bytes, rest: bytes) -> None:
        path = written(tmp_path, header + rest)
        with suppress(DatasetError):
            items = read_prompts(path)
            assert items
            assert len({item.id for item in items}) == len(items)
            assert all(item.prompt.strip() and 0 <= item.seed < 2**63 for item in items)

    check()


@pytest.mark.parametrize("name", ["p.csv", "p.CSV", "a b.Tsv", "p.txt", "folder/P.TXT"])
def test_files_are_known_by_their_suffix_in_any_case(name: str) -> None:
    assert is_prompt_file(name)
    assert not is_prompt_file(name[:-4])


def test_a_file_of_tabs_is_read_as_one_of_commas(tmp_path: Path) -> None:
    rows = [["prompt", "seed", "split"], ["one, two", "1", "train"], ['a "b" c', "2", "test"]]
    for name, mark in (("p.csv", ","), ("p.TSV", "\t")):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, delimiter=mark).writerows(rows)
    items = read_prompts(tmp_path / "p.TSV")
    assert items == read_prompts(tmp_path / "p.csv")
    assert [item.prompt for item in items] == ["one, two", 'a "b" c']
    (tmp_path / "bad.tsv").write_text("prompt\tseed\na\t1\t2\n")
    with pytest.raises(DatasetError, match=r"line 2: 3 values for 2 columns; .* holds tabs"):
        read_prompts(tmp_path / "bad.tsv")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_text_file_has_a_prompt_in_every_line(end: str, tmp_path: Path) -> None:
    path = tmp_path / "p.Txt"
    prompts = ["prompt", 'a cup, "red"', "富田店 <b>"]
    path.write_bytes(("\ufeff" + end.join([prompts[0], "", *prompts[1:]]) + end).encode())
    items = read_prompts(path)
    assert [item.prompt for item in items] == prompts
    assert [item.seed for item in items] == [drawn_seed(prompt) for prompt in prompts]
    assert [item.split for item in items] == [drawn_split(prompt) for prompt in prompts]
    path.write_text("\n \n")
    with pytest.raises(DatasetError, match="holds no prompt; write one in every line"):
        read_prompts(path)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("p.csv", "CSV"), ("P.TSV", "tab-separated values"), ("p.Txt", "plain text")],
)
@pytest.mark.parametrize("content", ["ein Käse\n".encode("latin-1"), b"a \0cup\n"])
def test_the_advice_is_for_the_files_own_format(
    tmp_path: Path, name: str, kind: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=f"line 1: .*; save it as {kind} in UTF-8"):
        read_prompts(tmp_path / name)
