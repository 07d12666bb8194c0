"""The folders of TensorRT's plans, beside plans of others that are damaged or unfinished."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines import tensorrt_engine
from engines.tensorrt_dialect import Plan, Range
from engines.tensorrt_engine import plan_folder


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions for which a plan was built."""
    versions: list[str] = []

    def build(*_: object, trt: SimpleNamespace, **_options: object) -> Plan:
        versions.append(trt.__version__)
        return Plan(b"plan", (), ())

    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    return versions


def folder_of(cache: Path, version: str) -> Path:
    return plan_folder(
        SimpleNamespace(__name__="tensorrt", __version__=version),
        cache / "graph-weights" / "model.onnx",
        ["noise"],
        {"latents": Range((1, 4), (2, 4), (2, 4))},
        "fp16",
        "Card 9",
        cache,
    )


def test_a_finished_plan_of_another_version_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder_of(tmp_path, "10.9")
    with caplog.at_level(logging.WARNING):
        folder_of(tmp_path, "11.0")
    assert "is for version 10.9" in caplog.text


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff"])
def test_a_damaged_note_of_another_plan_disturbs_nothing(
    tmp_path: Path, built: list[str], caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (folder_of(tmp_path, "10.9") / "made_for.json").write_bytes(content)
    assert (folder_of(tmp_path, "11.0") / "model.plan").read_bytes() == b"plan"
    assert built == ["10.9", "11.0"]
    assert not caplog.records


def test_an_unfinished_plan_is_not_called_kept(
    tmp_path: Path, built: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (folder_of(tmp_path, "10.9") / "sha256.json").unlink()
    folder_of(tmp_path, "11.0")
    assert built == ["10.9", "11.0"]
    assert not caplog.records


def test_a_plan_that_is_being_built_is_not_taken_for_a_kept_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process fills its folder while this one looks for plans."""
    make_plan = tensorrt_engine.build_plan

    def build(*arguments: object, trt: SimpleNamespace, **options: object) -> Plan:
        if trt.__version__ == "10.9":
            (filling,) = (tmp_path / "tensorrt").iterdir()
            (filling / "made_for.json").write_text('{"version": "10.9"}', encoding="utf-8")
            (filling / "sha256.json").write_text("{}", encoding="utf-8")
            folder_of(tmp_path, "11.0")
            (filling / "sha256.json").unlink()
        return make_plan(*arguments, trt=trt, **options)

    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    folder_of(tmp_path, "10.9")
    assert not caplog.records
