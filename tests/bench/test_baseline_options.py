"""The option that names baselines: ``all``, unknown names, and rendered images."""

from __future__ import annotations

import pytest

from bench.config import BASELINES, config_of
from bench.errors import UserError


@pytest.mark.parametrize(
    ("typed", "baselines"),
    [
        (["all"], BASELINES),
        (["vae", "all"], BASELINES),
        (["text", "vae"], ("text", "vae")),
        ([], ()),
    ],
)
def test_all_stands_for_every_baseline(typed: list[str], baselines: tuple[str, ...]) -> None:
    assert config_of({"baselines": typed}).baselines == baselines
    assert config_of({"baselines": tuple(typed)}).baselines == baselines


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["ows"], "there is no baseline 'ows'; did you mean own?"),
        (["al"], "there is no baseline 'al'; did you mean all?"),
        (["all", "vea"], "there is no baseline 'vea'; did you mean vae?"),
        (["text", 3], "baselines must be a list of names, not ('text', 3)"),
        ("all", "baselines must be a list of names, not 'all'"),
    ],
)
def test_an_unknown_baseline_is_refused_in_words(typed: object, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        config_of({"baselines": typed})
    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", BASELINES)
def test_what_needs_generated_images_is_refused_with_rendered_ones(name: str) -> None:
    options = {"baselines": [name], "source": "rendered"}
    if name in ("own", "own-reinitialised", "unconditional"):
        with pytest.raises(
            UserError, match=rf"baseline {name} needs generated images; drop it or use --source"
        ):
            config_of(options)
    else:
        assert config_of(options).baselines == (name,)
