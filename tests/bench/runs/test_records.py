"""Every way in which a JSON file of a run folder can be wrong has its sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import UserError
from bench.runs.folder import stored_config
from bench.runs.results import Results, read_results


def rewrite(folder: Path, name: str, **changes: object) -> None:
    """Change entries of a JSON file; None removes one."""
    entries = json.loads((folder / name).read_text()) | changes
    kept = {key: value for key, value in entries.items() if value is not None}
    (folder / name).write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("run.json", {"schema": None}, "run.json: schema: field required"),
        ("run.json", {"steps": [0, "1"]}, "run.json: steps.1: input should be a valid integer"),
        ("run.json", {"steps": []}, "run.json: steps: tuple should have at least 1 item"),
        ("run.json", {"world": True}, "run.json: world: input should be a valid integer"),
        ("run.json", {"seconds": None}, "run.json: seconds: field required"),
        ("run.json", {"sigmas": [1.0]}, "run.json: it needs a timestep, a sigma and a log_snr for"),
        ("run.json", {"tasks": {}}, "run.json: tasks: dictionary should have at least 1 item"),
        (
            "run.json",
            {"tasks": {"depth": {"metrics": ["rmse"], "higher_is_better": [], "unit": ""}}},
            "run.json: tasks.depth: it needs as many directions as metrics",
        ),
        ("environment.json", {"cores": "2"}, "environment.json: cores: input should be a valid"),
        ("environment.json", {"versions": {}}, "environment.json: versions: dictionary should"),
        ("config.json", {"fingerprint": 3}, "config.json: fingerprint: input should be a valid"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_named(
    name: str, changes: dict[str, object], sentence: str, copied_run: Path
) -> None:
    rewrite(copied_run, name, **changes)
    with pytest.raises(UserError) as caught:
        read_results(copied_run)
    assert sentence in str(caught.value)
    assert "is damaged" in str(caught.value)


@pytest.mark.parametrize("read", [stored_config, read_results], ids=["options", "results"])
@pytest.mark.parametrize(
    ("option", "value", "sentence"),
    [
        ("compare", [], "the option compare is now baselines"),
        ("batch", 0, "batch must be a whole number of at least 1, not 0"),
        ("speed", 3, "there is no option 'speed'"),
    ],
)
def test_options_of_another_version_are_named(
    read: object, option: str, value: object, sentence: str, copied_run: Path
) -> None:
    options = json.loads((copied_run / "config.json").read_text())["options"]
    rewrite(copied_run, "config.json", options=options | {option: value})
    with pytest.raises(UserError, match=r"config\.json cannot be used") as caught:
        read(copied_run)  # type: ignore[operator]
    assert sentence in str(caught.value)


def test_the_environment_is_stored_as_it_is_read(small_run: Results) -> None:
    stored = json.loads((small_run.path / "environment.json").read_text())
    assert small_run.environment.as_json() == stored
    assert list(small_run.environment.as_json()) == list(stored)


def test_items_that_do_not_fit_the_scores_are_named(copied_run: Path) -> None:
    items = json.loads((copied_run / "run.json").read_text())["test_items"]
    rewrite(copied_run, "run.json", test_items=items[:-1])
    with pytest.raises(UserError, match="needs one key for every test item"):
        read_results(copied_run)
    # Runs of earlier versions have no keys.
    rewrite(copied_run, "run.json", item_keys=None)
    with pytest.raises(UserError, match=rf"items\): .* {len(items)}\) not .* {len(items) - 1}\)"):
        read_results(copied_run)
    rewrite(copied_run, "run.json", test_items=[*items[:-1], items[0]])
    with pytest.raises(UserError, match=f"it has the item {items[0]} twice"):
        read_results(copied_run)
