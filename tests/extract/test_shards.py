"""Shards: complete or absent on disk, and verified when read."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from extract import shards as module
from extract.errors import ExtractError
from extract.shards import Shards

KINDS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.bool,
]


def tensors() -> dict[str, Tensor]:
    return {
        "moments/trained/mid.0/mean": torch.arange(12.0, dtype=torch.float64).view(3, 4),
        "images": torch.tensor(7),
        "mask": torch.tensor([[True, False, True]]),
        "empty": torch.zeros(0, 3),
    }


def refuse() -> dict[str, Tensor]:
    raise AssertionError("the shard is made again")


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a
    )


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    Shards(tmp_path, "f1").get("fold-0", tensors)
    return tmp_path / "f1" / "fold-0.safetensors"


def refusal(shards: Shards, name: str = "fold-0") -> str:
    """The message of a shard that cannot be read, and that ``get`` makes again."""
    with pytest.raises(ExtractError) as caught:
        shards.read(name)
    assert shards.damage(name) == str(caught.value)
    with pytest.raises(AssertionError, match="is made again"):
        shards.get(name, refuse)
    return str(caught.value)


def test_a_shard_is_made_once_and_read_back_bit_for_bit(tmp_path: Path) -> None:
    made: list[str] = []

    def make() -> dict[str, Tensor]:
        made.append("fold-0")
        return tensors()

    shards = Shards(tmp_path, "f1")
    assert not shards.done("fold-0")
    assert same(shards.get("fold-0", make), tensors())
    assert shards.done("fold-0")
    assert same(shards.get("fold-0", make), tensors())
    assert same(Shards(tmp_path, "f1").get("fold-0", make), tensors())
    assert made == ["fold-0"]
    assert files(tmp_path) == ["f1/fold-0.safetensors"]


@given(data=st.data())
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_tensors_of_any_kind_and_shape_survive(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4))
    kind = data.draw(st.sampled_from(KINDS))
    value = torch.randint(0, 2, shape).to(kind)
    shards = Shards(tmp_path, "any")
    shards.remove()
    assert same(shards.get("a", lambda: {"a": value}), {"a": value})


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    value = torch.tensor([float("nan"), float("inf"), -0.0])
    actual = Shards(tmp_path, "f1").get("a", lambda: {"a": value})["a"]
    assert torch.equal(actual.view(torch.int32), value.view(torch.int32))


def test_shards_of_another_fingerprint_are_separate(tmp_path: Path) -> None:
    Shards(tmp_path, "f1").get("fold-0", tensors)
    other = Shards(tmp_path, "f2")
    assert not other.done("fold-0")
    assert same(other.get("fold-0", lambda: {"a": torch.ones(1)}), {"a": torch.ones(1)})
    assert same(Shards(tmp_path, "f1").get("fold-0", refuse), tensors())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_the_middle_of_writing_leaves_no_shard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    whole = module.save_file

    def half(stored: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        whole(stored, path, metadata)
        path.write_bytes(path.read_bytes()[:50])
        raise error

    shards = Shards(tmp_path, "f1")
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_file", half)
        with pytest.raises(ExtractError if isinstance(error, OSError) else KeyboardInterrupt):
            shards.get("fold-0", tensors)
    assert not shards.done("fold-0")
    assert not [file for file in files(tmp_path) if file.endswith(".safetensors")]
    assert same(shards.get("fold-0", tensors), tensors())
    assert files(tmp_path) == ["f1/fold-0.safetensors"]


def test_a_failure_while_generating_leaves_nothing(tmp_path: Path) -> None:
    shards = Shards(tmp_path, "f1")
    with pytest.raises(AssertionError):
        shards.get("fold-0", refuse)
    assert not shards.done("fold-0")
    assert files(tmp_path) == []


@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_a_flipped_byte_at_twenty_places_is_found(tmp_path: Path, mask: int) -> None:
    shards = Shards(tmp_path, "f1")
    shards.get("fold-0", lambda: tensors() | {"large": torch.randn(500)})
    file = tmp_path / "f1" / "fold-0.safetensors"
    content = file.read_bytes()
    for at in random.Random(mask).sample(range(len(content)), 20):
        file.write_bytes(content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :])
        assert str(file) in refusal(shards), f"byte {at}"
    file.write_bytes(content)
    shards.get("fold-0", refuse)


def test_a_flipped_bit_in_any_byte_is_found(stored: Path) -> None:
    shards = Shards(stored.parents[1], "f1")
    content = stored.read_bytes()
    for at in range(len(content)):
        stored.write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        assert str(stored) in refusal(shards), f"bit {at % 8} of byte {at}"


def test_a_truncated_or_lengthened_file_is_found(stored: Path) -> None:
    shards = Shards(stored.parents[1], "f1")
    content = stored.read_bytes()
    for wrong in (
        *(content[:n] for n in (0, 1, 7, 8, 9, 60, len(content) // 2, len(content) - 1)),
        content + b"\0",
    ):
        stored.write_bytes(wrong)
        assert str(stored) in refusal(shards), f"{len(wrong)} bytes of {len(content)}"


def test_a_part_of_a_shard_is_read_and_checked_without_the_rest(tmp_path: Path) -> None:
    shards = Shards(tmp_path, "f1")
    shards.write("fold-0", {"sums": torch.full((1000,), 7.0), "costs": torch.arange(3)})
    file = tmp_path / "f1" / "fold-0.safetensors"
    content = file.read_bytes()
    at = content.index(torch.full((1000,), 7.0).numpy().tobytes())
    file.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    assert same(shards.read("fold-0", "costs".__eq__), {"costs": torch.arange(3)})
    assert shards.read("fold-0", lambda _: False) == {}
    with pytest.raises(ExtractError, match="checksum of sums"):
        shards.read("fold-0", "sums".__eq__)
    assert "sums" in str(shards.damage("fold-0"))


@pytest.mark.parametrize("wrong", [b"", b"junk", None], ids=["empty", "junk", "flipped"])
def test_a_damaged_shard_is_made_again(stored: Path, wrong: bytes | None) -> None:
    shards, content = Shards(stored.parents[1], "f1"), stored.read_bytes()
    assert shards.damage("fold-0") is None
    stored.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if wrong is None else wrong)
    assert str(stored) in str(shards.damage("fold-0"))
    assert same(shards.get("fold-0", tensors), tensors())
    assert same(shards.get("fold-0", refuse), tensors())


def test_another_fingerprints_file_is_found(stored: Path, tmp_path: Path) -> None:
    other = Shards(tmp_path, "f2")
    other.get("fold-1", tensors)
    shutil.copy(stored, tmp_path / "f2" / "fold-0.safetensors")
    assert "f2/fold-0.safetensors" in refusal(other)


def test_a_shard_under_another_shards_name_is_found(stored: Path, tmp_path: Path) -> None:
    shutil.copy(stored, tmp_path / "f1" / "fold-1.safetensors")
    assert "fold-1" in refusal(Shards(tmp_path, "f1"), "fold-1")


def test_a_refusal_is_one_line(stored: Path) -> None:
    stored.write_bytes(b"")
    message = refusal(Shards(stored.parents[1], "f1"))
    assert "\n" not in message
    assert "run again" in message


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for folder in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(ExtractError, match="cannot write") as caught:
            Shards(folder, "f1").get("fold-0", tensors)
        assert str(folder) in str(caught.value)


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        shards = Shards(tmp_path, "f1")
        shards.write("fold-0", tensors())
        (tmp_path / "any").write_text("")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    (path,) = shards.folder.iterdir()
    assert path.stat().st_mode == (tmp_path / "any").stat().st_mode
    assert path.stat().st_mode & 0o777 == 0o640


def test_removing_deletes_only_these_shards(tmp_path: Path) -> None:
    shards, other = Shards(tmp_path, "f1"), Shards(tmp_path, "f2")
    for each in (shards, other):
        for name in ("fold-0", "test-0000"):
            each.get(name, tensors)
    shards.remove()
    assert not shards.done("fold-0")
    assert not shards.done("test-0000")
    assert files(tmp_path) == ["f2/fold-0.safetensors", "f2/test-0000.safetensors"]
    shards.remove()
    assert same(other.get("fold-0", refuse), tensors())
    assert same(shards.get("fold-0", tensors), tensors())


def test_a_shard_reaches_the_disk_while_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_for_queue() -> None:
        # The queue has one thread, so everything that was queued before is then over.
        module._SYNCING.submit(lambda: None).result()

    wait_for_queue()  # files of earlier tests
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    shards = Shards(tmp_path, "fingerprint")
    shards.write("one", tensors())
    wait_for_queue()
    (path,) = tmp_path.rglob("*.safetensors")
    assert synced == [path.stat().st_ino]
