"""Entries that were changed after their submission, by hand or with checksums that fit again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main
from bench.errors import UserError
from bench.ledger import verify as verification
from bench.ledger.entries import disagreements, read_arrays, read_entry, write_arrays
from bench.ledger.facts import changed_facts, differing_levels
from bench.ledger.verify import verify
from bench.study import Study
from tests.bench.ledger.changes import edit, seal


@pytest.fixture
def opened_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks take the study that the session has opened."""
    monkeypatch.setattr(verification, "open_study", lambda _: study)


CELL = ("tasks", "depth", "cells", 0)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("model", "name"), "another", "names the model another, and the options of its run "),
        (("dataset", "name"), "another", "names the dataset another, and the options of its run "),
        (("tasks", "depth", "higher_is_better"), True, "other metric of depth, its direction or"),
        (("tasks", "depth", "metric"), "r2", "other metric of depth, its direction or its unit"),
        (("tasks", "depth", "unit"), "m", "other metric of depth, its direction or its unit"),
        (("sampler", "log_snr", 1), 0.5, "other noise levels (log_snr) than its run has here"),
        (("sampler", "sigmas", 1), 0.5, "other noise levels (sigmas) than its run has here"),
        (("sampler", "timesteps", 0), 998.0, "other timesteps than its run has here"),
        (("sampler", "name"), "DDIMScheduler", "other sampler than its run has here"),
        (("sampler", "source"), "rendered", "other source of the images than its run has here"),
        (("layers", "mid"), "mid_block", "other layers than its run has here"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_changed_fact_is_found_even_where_its_checksum_fits(
    place: tuple[str | int, ...], value: object, sentence: str, copied: Path, study: Study
) -> None:
    edit(copied, (place, value))
    assert "its checksum differs" in disagreements(read_entry(copied))[0][0]
    seal(copied)
    entry = read_entry(copied)
    said = disagreements(entry)[0] + changed_facts(entry.record, study)
    assert len(said) == 1
    assert sentence in said[0]


@pytest.mark.usefixtures("opened_once")
def test_changed_facts_are_a_part_of_the_check(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_compared", lambda *_: iter(()))
    edit(copied, (("tasks", "depth", "higher_is_better"), True))
    seal(copied)
    assert not verify(read_entry(copied), 1, {}, seed=0).passed


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        (("sampler", "log_snr"), [0.0], "need one value for every step"),
        (("sampler", "sigmas"), [], "need one value for every step"),
        (("layers",), {}, "layers: "),
        (("steps",), [0, 1], "its steps are not rising numbers from 1 to 4"),
        (("steps",), [1, 99], "its steps are not rising numbers from 1 to 4"),
        (("steps",), [2, 1], "its steps are not rising numbers from 1 to 4"),
        ((*CELL, "step"), 99, "tasks.depth: it has no step 99"),
        ((*CELL, "layer"), "up9.9", "tasks.depth: it has no layer up9.9"),
        ((*CELL, "side"), 0, "side"),
        ((*CELL, "side"), "0x0", "side"),
        (("tasks", "depth", "cells"), [], "tasks.depth.cells"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_an_entry_that_contradicts_itself_is_one_sentence(
    place: tuple[str | int, ...],
    value: object,
    sentence: str,
    copied: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(copied, (place, value))
    assert main(["verify", str(copied)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line
    assert line.endswith(" again")


def test_an_item_or_a_cell_that_stands_twice_is_one_sentence(copied: Path) -> None:
    document = json.loads((copied / "entry.json").read_text(encoding="utf-8"))
    edit(copied, (("items", 1), document["items"][0]))
    with pytest.raises(UserError, match=r"it has the item .* twice"):
        read_entry(copied)
    cells = document["tasks"]["depth"]["cells"]
    edit(copied, (("items", 1), document["items"][1]), ((*CELL[:-1], 1), cells[0]))
    with pytest.raises(UserError, match=r"it has the cell .* twice"):
        read_entry(copied)
    best = [n for n, c in enumerate(cells) if c["probe"] == "activations"][:2]
    edit(
        copied,
        ((*CELL[:-1], 1), cells[1]),
        *(((*CELL[:-1], n), cells[best[0]] | {"layer": f"{n}", "best": True}) for n in best),
    )
    with pytest.raises(UserError, match="are marked as the best"):
        read_entry(copied)


def test_a_best_cell_that_lost_its_mark_is_found(copied: Path) -> None:
    """Of a run alone one cannot tell which layer has the least loss: the checksum is compared."""
    cells = read_entry(copied).record.tasks["depth"].cells
    best = next(row for row, cell in enumerate(cells) if cell.best)
    edit(copied, ((*CELL[:-1], best, "best"), False))
    (said,) = disagreements(read_entry(copied))[0]
    assert "its checksum differs" in said


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("network", "other", "has a cell of other "),
        ("side", 64, "tokens, and the layer has "),
    ],
)
def test_cells_that_the_run_does_not_read_are_refused(
    place: str, value: object, sentence: str, copied: Path
) -> None:
    edit(copied, ((*CELL, place), value))
    seal(copied)
    with pytest.raises(UserError, match=sentence):
        verify(read_entry(copied), 1, {}, seed=0)


@pytest.mark.usefixtures("opened_once")
@pytest.mark.parametrize(
    ("shapes", "sentence"),
    [
        (((3, 1), (1,)), " channels, and another for "),
        (((3,), (1,)), "do not fit each other"),
        (((3, 2), (1,)), "do not fit each other"),
        ((None, (2,)), "with 2 outputs, where the task has 1"),
    ],
    ids=str,
)
def test_probes_of_another_shape_are_refused(
    shapes: tuple[tuple[int, ...] | None, tuple[int, ...]],
    sentence: str,
    copied: Path,
) -> None:
    probes = read_arrays(copied / "probes.npz")
    weights, intercept = shapes
    rows = len(probes["depth/0/weights"])
    probes["depth/0/weights"] = np.zeros((rows, 2) if weights is None else weights)
    probes["depth/0/intercept"] = np.zeros(intercept)
    write_arrays(copied / "probes.npz", probes)
    seal(copied)
    with pytest.raises(UserError, match=sentence):
        verify(read_entry(copied), 1, {}, seed=0)


def test_a_processor_that_rounds_otherwise_changes_no_fact(copied: Path, study: Study) -> None:
    """Near equal shares of signal and noise the log-SNR is near zero, and so is no scale."""
    record = read_entry(copied).record
    levels = [0.1400760 if level is None else level for level in record.sampler.log_snr]
    near = record.sampler.model_copy(update={"log_snr": (1e-3, *levels[1:])})
    other = near.model_copy(update={"log_snr": (1e-3 + 3e-7, *levels[1:])})
    assert differing_levels(near, other) == []
    far = near.model_copy(update={"log_snr": (1e-3 + 1e-4, *levels[1:])})
    assert differing_levels(near, far) == ["noise levels (log_snr)"]
    rounded = near.model_copy(update={"sigmas": tuple(sigma * (1 + 1e-7) for sigma in near.sigmas)})
    assert differing_levels(near, rounded) == []
    assert not changed_facts(record, study)
