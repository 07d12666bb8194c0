from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from engines.cache import cached_folder, default_cache, hash_of_weights, key_of
from engines.errors import EngineError

CONTENT = b"seventeen outputs"


def fill(folder: Path) -> None:
    (folder / "a.bin").write_bytes(CONTENT)


def refuse(folder: Path) -> None:
    raise AssertionError(f"{folder} is made again")


def everything_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SCENEBENCH_CACHE", str(tmp_path / "named"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_cache() == tmp_path / "named"
    monkeypatch.delenv("SCENEBENCH_CACHE")
    assert default_cache() == tmp_path / "xdg" / "scenebench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == tmp_path / "home" / ".cache" / "scenebench"


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    folder = cached_folder(tmp_path / "deep" / "key", fill)
    assert folder == tmp_path / "deep" / "key"
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert cached_folder(folder, refuse) == folder


def test_a_folder_whose_making_fails_leaves_nothing(tmp_path: Path) -> None:
    def half(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_folder(tmp_path / "key", half)
    assert everything_in(tmp_path) == []
    cached_folder(tmp_path / "key", fill)


def killed_while_filling(store: Path) -> Path:
    """What a process that is killed while it fills ``store / "key"`` leaves.

    Its folder is moved meanwhile, since such a process does not clean up.
    """
    left: list[Path] = []

    def stop(folder: Path) -> None:
        fill(folder)
        left.append(folder.rename(store / f"kept {folder.name}"))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_folder(store / "key", stop)
    return left[0].rename(store / left[0].name.removeprefix("kept "))


def grow_old(*paths: Path) -> None:
    then = time.time() - 25 * 3600
    for path in paths:
        os.utime(path, (then, then))


def test_a_folder_that_is_being_filled_has_a_name_of_its_own(tmp_path: Path) -> None:
    left = killed_while_filling(tmp_path)
    assert left.name.startswith(".unfinished-key-")


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    left = killed_while_filling(tmp_path)
    finished = cached_folder(tmp_path / "finished", fill)
    cached_folder(tmp_path / "second", fill)
    assert left.is_dir()
    for folder in (left, finished):
        grow_old(*folder.iterdir(), folder)
    cached_folder(tmp_path / "third", fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["finished", "second", "third"]


def test_an_old_folder_with_a_new_file_is_kept(tmp_path: Path) -> None:
    left = killed_while_filling(tmp_path)
    grow_old(left)
    cached_folder(tmp_path / "key", fill)
    assert (left / "a.bin").read_bytes() == CONTENT


def test_a_folder_that_another_process_made_meanwhile_is_taken(tmp_path: Path) -> None:
    def slow(folder: Path) -> None:
        cached_folder(tmp_path / "key", fill)
        (folder / "a.bin").write_bytes(b"later")

    folder = cached_folder(tmp_path / "key", slow)
    assert (folder / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_flipped_bit_anywhere_in_a_cached_folder_is_found(tmp_path: Path, mask: int) -> None:
    folder = cached_folder(tmp_path / "key", fill)
    for file in folder.iterdir():
        stored = file.read_bytes()
        for index in range(len(stored)):
            flipped = bytes([stored[index] ^ mask])
            file.write_bytes(stored[:index] + flipped + stored[index + 1 :])
            with pytest.raises(EngineError, match="is damaged") as caught:
                cached_folder(folder, refuse)
            assert str(folder) in str(caught.value)
        file.write_bytes(stored)
    cached_folder(folder, refuse)


def test_the_damaged_file_is_named(tmp_path: Path) -> None:
    folder = cached_folder(tmp_path / "key", fill)
    (folder / "a.bin").write_bytes(CONTENT[1:])
    with pytest.raises(EngineError) as caught:
        cached_folder(folder, refuse)
    assert str(folder / "a.bin") in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", "3"])
def test_checksums_of_no_use_are_found(tmp_path: Path, text: str) -> None:
    folder = cached_folder(tmp_path / "key", fill)
    (folder / "sha256.json").write_text(text, encoding="utf-8")
    with pytest.raises(EngineError, match="is damaged"):
        cached_folder(folder, refuse)


def test_a_lost_file_is_found(tmp_path: Path) -> None:
    folder = cached_folder(tmp_path / "key", fill)
    (folder / "a.bin").unlink()
    with pytest.raises(EngineError, match="is damaged"):
        cached_folder(folder, refuse)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for cache in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(EngineError, match="SCENEBENCH_CACHE") as caught:
            cached_folder(cache / "key", fill)
        assert str(cache) in str(caught.value)


def test_a_full_disk_is_refused_in_words(tmp_path: Path) -> None:
    def overflow(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "model.onnx"))

    with pytest.raises(EngineError, match="No space left on device"):
        cached_folder(tmp_path / "key", overflow)
    assert everything_in(tmp_path) == []


def test_a_key_depends_on_every_fact_and_not_on_their_order() -> None:
    options = {"opset": 20, "taps": [["mid.0", "mid_block"]]}
    assert key_of(options) == key_of(dict(reversed(options.items())))
    assert key_of(options) != key_of(options | {"opset": 23})
    assert key_of(options) != key_of(options | {"taps": [["mid.0", "mid_block."]]})


def test_the_hash_of_weights_sees_every_entry_name_shape_and_kind() -> None:
    def state() -> dict[str, torch.Tensor]:
        return {
            "a": torch.arange(6.0).view(2, 3),
            "b": torch.tensor(1.5),
            "c": torch.tensor([True, False]),
        }

    reference = hash_of_weights(state())
    assert hash_of_weights(dict(reversed(state().items()))) == reference
    assert hash_of_weights(state() | {"a": state()["a"].mT.contiguous().mT}) == reference
    others = [
        state() | {"a": state()["a"].view(3, 2)},
        state() | {"a": state()["a"].view(torch.int32)},
        state() | {"b": torch.tensor(1.5000001)},
        state() | {"c": torch.tensor([True, True])},
        state() | {"d": torch.tensor(0)},
        {"A": state()["a"], "b": state()["b"], "c": state()["c"]},
    ]
    for entry in range(6):
        changed = state()
        changed["a"].view(-1)[entry] += 1e-6 if entry else 1e-30
        others.append(changed)
    assert len({reference, *map(hash_of_weights, others)}) == 1 + len(others)


def test_the_hash_of_weights_sees_buffers() -> None:
    module = nn.BatchNorm2d(3)
    before = hash_of_weights(module.state_dict())
    assert isinstance(module.running_mean, torch.Tensor)
    module.running_mean[1] += 1
    assert hash_of_weights(module.state_dict()) != before
