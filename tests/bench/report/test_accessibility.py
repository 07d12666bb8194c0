"""The page can be read with a keyboard, with a screen reader, and with weak eyes."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from bench.figures.charts import NOISE, STEP, Line, curve_chart, heat
from bench.report.effect_charts import drawn_charts
from bench.report.html import write_report
from bench.report.interventions import panel
from bench.report.task_charts import explorer_charts
from bench.runs.results import Results
from probes.bootstrap import Score
from tests.bench.report.intervention_records import made_summary, write_all
from tests.contrast import AA, contrast

KEYS_OF_ITS_OWN = {"grid"}
"""Scrolling parts whose cells can be reached by the keyboard."""


class Tags(HTMLParser):
    """Collects the start tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def pages(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> list[Tags]:
    folder = tmp_path_factory.mktemp("interventions")
    write_all(folder)
    page = write_report(small_run).read_text(encoding="utf-8")
    return [Tags(page), Tags(panel(folder) or "")]


def test_text_on_every_colour_of_a_heat_map_can_be_read() -> None:
    for at in np.linspace(0, 1, 2001):
        background, text = heat(float(at), 0.0, 1.0)
        assert contrast(background, text) >= AA, at


def test_the_keyboard_reaches_whatever_scrolls(pages: list[Tags]) -> None:
    for page in pages:
        scrolling = [
            named
            for tag, named in page.tags
            if tag == "pre" or "scroll" in (named.get("class") or "").split()
        ]
        assert len(scrolling) > 5
        for named in scrolling:
            if named.get("id") not in KEYS_OF_ITS_OWN:
                assert (named.get("tabindex"), named.get("role")) == ("0", "region"), named
                assert named.get("aria-label") or named.get("aria-labelledby"), named


def test_parts_of_the_report_that_scroll_have_names_of_their_own(pages: list[Tags]) -> None:
    names = [
        named.get("aria-label") or named.get("aria-labelledby")
        for _, named in pages[0].tags
        if named.get("role") == "region"
    ]
    # Strips are named by their prompts, which can be the same.
    names = [name for name in names if not str(name).startswith("Images and predictions")]
    assert len(names) == len(set(names))


def test_headings_of_tables_say_what_they_head(pages: list[Tags]) -> None:
    for page in pages:
        scopes = [named.get("scope") for tag, named in page.tags if tag == "th"]
        assert {"row", "col"} == set(scopes)


@pytest.mark.parametrize("name", ["board", "explorer", "intervene", "macros", "report"])
def test_templates_have_no_heading_without_a_scope(name: str) -> None:
    template = files("bench.report").joinpath("templates", f"{name}.html.jinja")
    assert not re.findall(r"<th(?! scope=)\b[^>]*>", template.read_text(encoding="utf-8"))


def test_charts_that_scripts_draw_keep_the_name_of_the_image(small_run: Results) -> None:
    for task in small_run.tasks.values():
        charts = explorer_charts(small_run, task)["charts"]
        assert charts[STEP]["description"].startswith(f"{task.name}: {task.headline}")
        assert charts[STEP]["description"].endswith(" by denoising step")
        assert "log-SNR" in charts[NOISE]["description"]
    effects = drawn_charts(made_summary(("a", "b", "c")))
    assert effects is not None
    for control, name in effects["controls"].items():
        labels = [spec["description"] for spec in effects["specs"][control].values()]
        assert len({*labels}) == 2
        assert all(label.endswith(f"; gains over {name}") for label in labels)


def test_a_chart_is_named_by_its_measure_unless_it_has_a_name() -> None:
    line = Line("a", "trained", [(1, Score(0.5, 0.4, 0.6)), (2, Score(0.7, 0.6, 0.8))])
    chart = curve_chart([line], [1, 2], [None, 0.5], "dice")
    assert chart["description"] == "dice by denoising step"
    named = curve_chart([line], [1, 2], [None, 0.5], "dice", STEP, "masks")
    assert named["description"] == "masks"
