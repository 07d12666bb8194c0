"""Queries to a TensorRT library before any engine is opened."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from engines import tensorrt_dialect
from engines.backends.tensorrt import BACKEND
from engines.errors import EngineError
from engines.tensorrt_dialect import library, network_flags, torch_type
from tests.engines.fakes import DataType


@pytest.mark.parametrize(
    "error", [ImportError("libnvinfer.so.10: no such file"), OSError("libcudart.so: too old")]
)
def test_a_library_that_is_there_but_cannot_be_loaded_is_unavailable_in_words(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(_name: str) -> object:
        raise error

    monkeypatch.setattr(tensorrt_dialect, "find_spec", lambda name: name == "tensorrt" or None)
    monkeypatch.setattr(tensorrt_dialect, "import_module", broken)
    reason = str(BACKEND.unavailable())
    assert reason.startswith(f"tensorrt cannot be loaded ({error})")
    assert "install" in reason


def test_types_are_looked_up_by_name_bfloat16_too() -> None:
    fake = SimpleNamespace(DataType=DataType)
    assert torch_type(fake, DataType.BF16) == torch.bfloat16
    assert torch_type(fake, DataType.HALF) == torch.float16
    with pytest.raises(EngineError, match="no counterpart"):
        torch_type(fake, "FP4")


@pytest.mark.parametrize(
    ("members", "flags"),
    [
        ({"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}, 3),
        ({"STRONGLY_TYPED": 0}, 1),
        ({"STRONGLY_TYPED": 4}, 16),
    ],
)
def test_networks_are_strongly_typed_whatever_the_flags_numbers(
    members: dict[str, int], flags: int
) -> None:
    library = SimpleNamespace(NetworkDefinitionCreationFlag=SimpleNamespace(**members))
    assert network_flags(library) == flags


def test_without_a_card_the_backend_says_what_is_missing() -> None:
    if torch.cuda.is_available() and library() is not None:
        pytest.skip("this machine has both")
    assert "install" in str(BACKEND.unavailable())
