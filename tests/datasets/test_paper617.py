"""The paper's prompts, from small files, or from the authors' in $SCENEBENCH_PAPER617."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from threading import Thread

import pytest

from datasets.errors import DatasetError
from datasets.sets import paper617
from datasets.sets.paper617 import COMMIT, DATASET, FILES, TRAIN_COPY

AUTHORS = os.environ.get("SCENEBENCH_PAPER617")
TEXT = {
    "train": 'prompts,seeds,prompt_inds\n"a ""cup"", <br />",3,70\n',
    "test": "prompts,seeds,prompt_inds\nчерный кот,5,8\na dog,6,9\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two small files in place of the authors', with checksums of their own."""
    files = {}
    for split, (name, _) in FILES.items():
        (tmp_path / name).write_text(TEXT[split], encoding="utf-8")
        files[split] = (name, hashlib.sha256(TEXT[split].encode()).hexdigest())
    monkeypatch.setattr(paper617, "FILES", files)
    return tmp_path


def test_without_files_it_says_what_to_do() -> None:
    with pytest.raises(
        DatasetError, match=r"name their folder with --prompts, or download them with --fetch"
    ):
        DATASET.items()


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"cannot read {tmp_path}/train_split"):
        DATASET.items(tmp_path)


def test_the_files_become_items_with_their_texts_unchanged(folder: Path) -> None:
    items = DATASET.items(folder)
    assert [(item.id, item.prompt, item.seed, item.split) for item in items] == [
        ("0000070", 'a "cup", <br />', 3, "train"),
        ("0000008", "черный кот", 5, "test"),
        ("0000009", "a dog", 6, "test"),
    ]


def test_a_changed_file_is_refused(folder: Path) -> None:
    (folder / FILES["test"][0]).write_text(TEXT["test"].replace("dog", "cat"), encoding="utf-8")
    with pytest.raises(DatasetError, match="is not the authors' file"):
        DATASET.items(folder)


@pytest.fixture
def served(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The files on a local web server, laid out as in the authors' repository."""
    root = tmp_path_factory.mktemp("server")
    for split, path in (("train", TRAIN_COPY), ("test", FILES["test"][0])):
        file = root / COMMIT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TEXT[split], encoding="utf-8")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(paper617, "REPOSITORY", f"http://127.0.0.1:{server.server_port}")
    yield root / COMMIT
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetched_files_are_the_same_and_fetched_once(
    folder: Path, served: Path, tmp_path: Path
) -> None:
    assert DATASET.fetch is not None
    fetched = DATASET.fetch(tmp_path / "cache")
    assert DATASET.items(fetched) == DATASET.items(folder)
    for file in served.rglob("*.csv"):
        file.unlink()
    assert DATASET.fetch(tmp_path / "cache") == fetched


def test_another_file_than_the_authors_is_not_fetched(served: Path, tmp_path: Path) -> None:
    (served / FILES["test"][0]).write_text("something else", encoding="utf-8")
    assert DATASET.fetch is not None
    with pytest.raises(DatasetError, match=r"cannot download http.*test_split.*\(ValueError\)"):
        DATASET.fetch(tmp_path / "cache")


def test_a_server_that_is_not_there_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper617, "REPOSITORY", "http://127.0.0.1:9")
    assert DATASET.fetch is not None
    with pytest.raises(DatasetError, match="name the folder of the authors' files with --prompts"):
        DATASET.fetch(tmp_path / "cache")


@pytest.mark.skipif(
    AUTHORS is None, reason="SCENEBENCH_PAPER617 names no folder of the authors' files"
)
def test_the_authors_files_are_617_items_of_distinct_prompts_and_seeds() -> None:
    assert AUTHORS is not None
    items = DATASET.items(Path(AUTHORS))
    assert Counter(item.split for item in items) == {"train": 246, "test": 371}
    for name in ("id", "prompt", "seed"):
        assert len({getattr(item, name) for item in items}) == 617
    rows = []
    for name, _ in FILES.values():
        with (Path(AUTHORS) / name).open(encoding="utf-8", newline="") as stream:
            rows.extend(csv.DictReader(stream))
    for item, row in zip(items, rows, strict=True):
        assert (item.prompt, item.seed, int(item.id)) == (
            row["prompts"],
            int(row["seeds"]),
            int(row["prompt_inds"]),
        )
    text = "".join(item.prompt for item in items)
    assert any("\u0400" <= letter <= "\u04ff" for letter in text)
    assert "<br />" in text
    assert '"' in text
