"""The page's section on interventions says what the records say."""

from __future__ import annotations

import base64
import io
import json
import re
from html import unescape
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bench.errors import UserError
from bench.interventions.arms import CONTROLNET, NULL, RANDOM
from bench.interventions.records import ATTRIBUTES, MAPS, task_folder, write_record
from bench.interventions.summary import nulls
from bench.report.before_after import before_after, outline
from bench.report.effect_charts import drawn_charts, edge_lines, equal_chart, gain_chart, points_of
from bench.report.intervention_maps import read_attributes, read_maps
from bench.report.interventions import panel
from probes.bootstrap import Score
from tests.bench.report.intervention_records import (
    BLOCKS,
    CHOSEN,
    METHODS,
    NAMES,
    STRENGTHS,
    damage_of,
    gain_of,
    made_attributes,
    made_grid,
    made_maps,
    made_summary,
    write_all,
    write_summary,
)

ITEMS = ("a", "b", "c")


def rows_of(spec: dict[str, Any], column: str) -> list[dict[str, Any]]:
    return next(rows for rows in spec["datasets"].values() if column in rows[0])


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", "", page)).split())


def test_the_outline_separates_the_mask_from_the_rest() -> None:
    mask = np.random.default_rng(0).random((1, 9, 12)) > 0.5
    drawn = re.findall(r"M(\d+) (\d+)([hv])1", outline(mask.astype(np.float32)))
    segments = {(int(x), int(y), line) for x, y, line in drawn}
    assert len(segments) == len(drawn)

    def inside(y: int, x: int) -> bool:
        return 0 <= y < 9 and 0 <= x < 12 and bool(mask[0, y, x])

    expected = set()
    for y in range(10):
        for x in range(13):
            if inside(y, x) != inside(y - 1, x):
                expected.add((x, y, "h"))
            if inside(y, x) != inside(y, x - 1):
                expected.add((x, y, "v"))
    assert segments == expected
    assert outline(np.array([[[0.0, 0.5]]], np.float32)) == ""
    assert outline(np.zeros((2, 4, 4), np.float32)) == ""


def test_images_are_those_of_the_grid_and_at_most_eight(tmp_path: Path) -> None:
    names, grid = [str(number) for number in range(10)], made_grid(10)
    summary = made_summary(names)
    write_summary(tmp_path, summary, grid)
    items = before_after(tmp_path, summary)
    assert [item["item"] for item in items] == names[:8]
    assert [item["prompt"] for item in items] == list(summary.prompts[:8])
    for number, item in enumerate(items):
        for kind, images in (("before", grid.image), ("after", grid.edited)):
            data = base64.b64decode(item[kind].partition(",")[2])
            pixels = np.asarray(Image.open(io.BytesIO(data)))
            assert np.array_equal(np.moveaxis(pixels, -1, 0), images[number])
        assert item["outline"] == outline(grid.target[number])
        assert len(item["labels"]) == 3
    # Summaries of earlier versions have no prompts.
    earlier = before_after(tmp_path, summary.model_copy(update={"prompts": ()}))
    assert [(item["item"], item["prompt"]) for item in earlier] == [(x, "") for x in names[:8]]
    (task_folder(tmp_path, "saliency") / "grid.safetensors").write_bytes(b"damaged")
    assert before_after(tmp_path, summary) == []


def test_chosen_strengths_and_ends_of_the_grid_are_marked() -> None:
    summary = made_summary(ITEMS)
    marked = {
        method: [(p.arm.strength, p.edge) for p in points_of(summary, method) if p.is_chosen]
        for method in METHODS
    }
    assert marked == {
        "weights": [(8.0, "the strongest tried")],
        "pattern": [(8.0, "")],
        CONTROLNET: [(1.0, "the strongest tried")],
    }
    assert [line.partition(":")[0] for line in edge_lines(summary)] == ["weights", CONTROLNET]
    # Where all strengths have the same controls, only the experiment's own choice is known.
    few = [
        arm.model_copy(update={"gains": {NULL: arm.gains[NULL]}}) if arm.gains else arm
        for arm in summary.arms
    ]
    same = summary.model_copy(update={"arms": tuple(few)})
    assert [p.arm.strength for p in points_of(same, "pattern") if p.is_chosen] == [8.0]
    assert not any(point.is_chosen for point in points_of(same, "weights"))
    assert edge_lines(same) == []


@pytest.mark.parametrize(("control", "less"), [(NULL, 0.0), (RANDOM, 0.01)])
def test_the_curves_are_those_of_the_records(control: str, less: float) -> None:
    spec = gain_chart(made_summary(ITEMS), control)
    rows = rows_of(spec, "strength")
    for method in METHODS:
        curve = [row for row in rows if row["method"] == method]
        assert [row["strength"] for row in curve] == [0.0, *STRENGTHS[method]]
        assert [curve[0][name] for name in ("damage", "mean", "low", "high")] == [0.0] * 4
        for row in curve[1:]:
            gain = gain_of(method, row["strength"]) - less
            assert row["damage"] == pytest.approx(damage_of(method, row["strength"]))
            assert (row["mean"], row["low"], row["high"]) == pytest.approx(
                (gain, gain - 0.04, gain + 0.04)
            )
            assert row["gain text"] == str(Score(gain, gain - 0.04, gain + 0.04))
            assert row["visible text"] == "0.062"
            assert row["chosen"] == (row["strength"] == CHOSEN[method])
    stated = next(r for r in spec["datasets"].values() if list(r[0]) == ["damage"])
    assert [row["damage"] for row in stated] == [0.05, 0.1]


def test_gains_at_equal_damage_are_those_of_the_records() -> None:
    summary = made_summary(ITEMS)
    for control in (NULL, RANDOM):
        rows = rows_of(equal_chart(summary, control), "row")
        for curve in summary.curves:
            effects = curve.effects if control == NULL else curve.over_random
            own = [row for row in rows if row["method"] == curve.method]
            assert [row["at text"] for row in own] == ["at 0.05", "at 0.1", "mean to 0.1"]
            assert [(r["mean"], r["low"], r["high"]) for r in own] == list(effects or ())
            shares = ["75% of the items", "25% of the items", ""]
            if control == RANDOM:
                others = [", 50% by random directions", ", 5% by random directions", ""]
                shares = [share + other for share, other in zip(shares, others, strict=True)]
            assert [row["reached text"] for row in own] == shares


def test_charts_are_what_the_schema_of_vega_lite_allows() -> None:
    import altair

    charts = drawn_charts(made_summary(ITEMS))
    assert charts is not None
    for control in (NULL, RANDOM):
        for spec in charts["specs"][control].values():
            altair.Chart.from_dict(spec).to_dict(validate=True)
    assert all(image.startswith("<svg role") for image in charts["images"].values())


def test_undefined_gains_are_left_out_and_fit_into_json() -> None:
    summary = made_summary(ITEMS)
    undefined = (nan, nan, nan)
    arms = [
        arm.model_copy(update={"gains": arm.gains | {NULL: undefined, RANDOM: (0.1, nan, nan)}})
        if arm.gains and arm.strength == 16
        else arm
        for arm in summary.arms
    ]
    curves = [
        curve.model_copy(update={"effects": (undefined, *curve.effects[1:])})
        for curve in summary.curves
    ]
    charts = drawn_charts(summary.model_copy(update={"arms": tuple(arms), "curves": tuple(curves)}))
    assert charts is not None
    json.dumps(charts["specs"], allow_nan=False)
    rows = rows_of(charts["specs"][NULL]["curves"], "strength")
    assert 16.0 not in {row["strength"] for row in rows}
    assert {row["at text"] for row in rows_of(charts["specs"][NULL]["equal"], "row")} == {
        "at 0.1",
        "mean to 0.1",
    }
    assert drawn_charts(summary.model_copy(update={"curves": ()})) is None


def test_maps_show_every_cell_and_one_correlation(tmp_path: Path) -> None:
    record = made_maps()
    write_record(record, task_folder(tmp_path, "saliency") / MAPS)
    maps = read_maps(tmp_path, "saliency")
    assert maps is not None
    for shown, intervals in zip(maps["maps"], (record.reading, record.acting), strict=True):
        assert [name for name, _ in shown["rows"]] == list(BLOCKS)
        assert shown["columns"] == ["steps 1-3", "step 4"]
        for (_, tiles), row in zip(shown["rows"], intervals, strict=True):
            assert [tile.text for tile in tiles] == [f"{mean:+.2f}" for mean, *_ in row]
            assert [tile.notes for tile in tiles] == [
                (f"[{low:+.2f}, {high:+.2f}]",) for _, low, high in row
            ]
    assert "over 6 cells: -0.250 [-0.750, 0.500]" in maps["correlation"]
    assert "moves it by +0.010 on average; 4 test images" in maps["correlation"]
    assert "no agreement was seen" in maps["correlation"]
    assert maps["line"].startswith("12 intervals of 95 % are shown and not corrected")
    page = words(panel(tmp_path) or "")
    assert page.count("rank correlation of the two maps") == 1
    assert "12 intervals of 95 %" in page


def test_undefined_cells_of_maps_are_read_as_they_are_written(tmp_path: Path) -> None:
    empty = (nan, nan, nan)
    record = made_maps().model_copy(update={"reading": ((empty, empty),) * 3, "correlation": empty})
    write_record(record, task_folder(tmp_path, "saliency") / MAPS)
    maps = read_maps(tmp_path, "saliency")
    assert maps is not None
    assert {tile.text for _, tiles in maps["maps"][0]["rows"] for tile in tiles} == {"–"}
    assert "undefined" in maps["correlation"]
    assert "nan" not in words(panel(tmp_path) or "")


def test_attributes_stand_beside_their_controls(tmp_path: Path) -> None:
    write_record(made_attributes(), task_folder(tmp_path, ATTRIBUTES) / "attributes.json")
    table = read_attributes(tmp_path)
    assert table is not None
    assert [method["name"] for method in table["methods"]] == ["means", "weights", "pattern"]
    for method in table["methods"]:
        edit, random = (dict(shown["rows"]) for shown in method["maps"])
        for row, edited in enumerate(NAMES):
            for column in range(len(NAMES)):
                own, tile = row == column, edit[edited][column]
                assert (tile.text, tile.is_own) == ("0.85" if own else "0.15", own)
                assert tile.notes[0] == ("gain +0.50" if own else "gain +0.10")
                assert tile.notes[2:] == (("q 0.03",) if own else ("q 0.4", "75% reach"))
                assert random[edited][column].text == ("0.35" if own else "0.05")
    page = words(panel(tmp_path) or "")
    assert "12 gains with intervals of 95 % are shown and not corrected" in page
    assert "on 4 test items" in page


@pytest.mark.parametrize("schema", [None, 1])
def test_matrices_of_an_earlier_version_are_not_shown(schema: int | None, tmp_path: Path) -> None:
    path = task_folder(tmp_path, ATTRIBUTES) / "attributes.json"
    path.parent.mkdir(parents=True)
    stated = {} if schema is None else {"schema": schema}
    path.write_text(json.dumps({"change": 0.1, "entries": []} | stated), encoding="utf-8")
    assert read_attributes(tmp_path) is None


def test_a_matrix_of_a_later_version_asks_for_an_update(tmp_path: Path) -> None:
    path = task_folder(tmp_path, ATTRIBUTES) / "attributes.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"schema": 99}', encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be read .*; update scenebench"):
        read_attributes(tmp_path)


@pytest.mark.parametrize(
    ("name", "option"), [("saliency/maps.json", "--map"), ("attributes/attributes.json", "--attr")]
)
def test_a_damaged_file_is_named(name: str, option: str, tmp_path: Path) -> None:
    write_all(tmp_path)
    path = tmp_path / "interventions" / name
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(UserError, match=rf"{name} is damaged \(.*\); .*{option}"):
        panel(tmp_path)


def test_the_panel_has_every_experiment_and_what_was_not_seen(tmp_path: Path) -> None:
    write_all(tmp_path)
    page = panel(tmp_path)
    assert page is not None
    names = re.findall(r'data-experiment="([^"]*)"', page)
    assert names == ["depth-farther", "saliency", ATTRIBUTES]
    text = words(page)
    unseen = nulls(made_summary(ITEMS))
    assert unseen
    assert all(sentence in text for sentence in unseen)
    assert "Smallest gains that 3 items show with 80 % power" in text
    assert "weights: the chosen strength 8 is the strongest tried" in text
    assert "not corrected for their number: the claim is the chosen edit's" in text
    assert page.count('type="range"') == 2 * 3
    assert page.count('<span class="shot before">') == page.count('<span class="shot after">') == 6
