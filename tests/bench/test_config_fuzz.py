"""Whatever a configuration file says, it is a configuration or one sentence."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.config import Config, config_of, read_toml
from bench.errors import UserError

NAMES = [field.name for field in fields(Config)]
QUIETLY = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.just(("depth",))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
)
WORDS = [
    *NAMES,
    "=",
    "\n",
    "[",
    "]",
    "1",
    "-",
    "'depth'",
    '"',
    "true",
    "nan",
    "inf",
    ".",
    "#",
    "{",
    "}",
    ",",
    "1e999",
]


@QUIETLY
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), VALUES, max_size=4))
def test_any_values_are_a_configuration_or_refused_in_words(options: dict[str, object]) -> None:
    with suppress(UserError):
        config = config_of(options)
        # Whatever is accepted can be used where it is used.
        assert all(0 <= step < config.sampler_steps for step in config.probed_steps)
        assert config.guidance is None or abs(float(config.guidance)) < float("inf")


@pytest.mark.parametrize(
    "stored",
    [
        st.binary(max_size=100),
        st.lists(st.sampled_from(WORDS), max_size=12).map(lambda words: " ".join(words).encode()),
    ],
    ids=["bytes", "words"],
)
def test_any_file_is_a_configuration_or_refused_in_words(
    tmp_path: Path, stored: st.SearchStrategy[bytes]
) -> None:
    file = tmp_path / "run.toml"

    @QUIETLY
    @given(stored)
    def check(content: bytes) -> None:
        file.write_bytes(content)
        with suppress(UserError):
            config_of(read_toml(file))

    check()


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000,
        "limit = " + "9" * 5000,
        "steps = 5",
        "steps = [true]",
        "out = 3",
        "guidance = nan",
    ],
)
def test_what_once_ended_in_a_traceback_is_refused_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError):
        config_of(read_toml(file))


def test_a_path_that_no_system_takes_is_refused_in_words() -> None:
    with pytest.raises(UserError):
        read_toml(Path("a\0b"))
