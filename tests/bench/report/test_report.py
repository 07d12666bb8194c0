"""The report is one self-contained file, and no prompt in it can execute."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from errno import ENOSPC
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.analysis.comparisons import comparisons
from bench.analysis.emergence import emergence
from bench.analysis.findings import FINDINGS, FINDINGS_SCHEMA, findings_of, write_findings
from bench.analysis.significance import discoveries
from bench.command_line import run_command
from bench.errors import UserError
from bench.figures.charts import NOISE, Line, curve_chart, heat, svg
from bench.figures.images import shaded
from bench.report.html import write_report
from bench.report.tables import UNTRAINED, comparison_row, held_lines, print_run
from bench.runs.results import Results, read_results
from probes.bootstrap import Score


class Page(HTMLParser):
    """Collects tags, text, style, the scripts' data and what is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[str] = []
        self.text: list[str] = []
        self.style = ""
        self.data = ""
        self.loads: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        named = dict(attrs)
        if tag == "svg" and named.get("role") == "img":
            self.images.append(named["aria-label"] or "")
        if tag in ("script", "style"):
            self._inside = named.get("id") or tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside == "style":
            self.style += data
        elif not self._inside:
            self.text.append(data)


@pytest.fixture(scope="module")
def page(small_run: Results) -> Page:
    return Page(write_report(small_run).read_text(encoding="utf-8"))


def test_nothing_is_loaded_from_elsewhere(page: Page, small_run: Results) -> None:
    assert page.loads
    assert all(address.startswith("data:image/png;base64,") for address in page.loads)
    assert page.style
    assert not re.search(r"@import|url\(|https?:", page.style)
    assert {
        re.sub(r"v[\d.]+json", "v.json", url) for url in re.findall(r"https?:[^\"]*", page.data)
    } == {"https://vega.github.io/schema/vega-lite/v.json"}
    addresses = re.findall(r'"(data:[^,]*),', page.data)
    assert {"data:image/png;base64", "data:image/jpeg;base64"} == set(addresses)
    assert (small_run.path / "report.html").stat().st_size < 3_000_000


def test_every_layer_task_and_control_is_there(page: Page, small_run: Results) -> None:
    text = " ".join(page.text)
    for word in (
        *small_run.layers,
        *small_run.tasks,
        "permuted",
        "random",
        "ceiling",
        "position alone",
        "denoising step",
    ):
        assert word in text
    assert [label.partition(":")[0] for label in page.images] == list(small_run.tasks)


def test_figures_are_those_of_the_run_folder(page: Page, small_run: Results) -> None:
    task = small_run.tasks["depth"]
    (cell,) = task.where(network="trained", layer="up3.0", step=3, probe="activations")
    assert f"{np.nanmean(task.score(cell)):.3f}" in page.text


def test_the_multiplicity_lines_of_the_terminal_are_there(page: Page, small_run: Results) -> None:
    text = " ".join(" ".join(page.text).split())
    for line in held_lines(findings_of(small_run)):
        assert line in text
    assert run_command(small_run.config) in text
    assert "untrained" not in text
    assert "predicted clean image" not in text


def rewritten(folder: Path, **options: object) -> tuple[Results, str]:
    """The run under other options, and the words of its page."""
    config = json.loads((folder / "config.json").read_text())
    config["options"] |= options
    (folder / "config.json").write_text(json.dumps(config))
    results = read_results(folder)
    return results, " ".join(
        " ".join(Page(write_report(results).read_text(encoding="utf-8")).text).split()
    )


def test_untrained_weights_are_named_at_the_top_of_page_and_terminal(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, text = rewritten(copied_run, weights="random")
    assert text.index(UNTRAINED) < text.index("Images and predictions by step")
    print_run(results)
    output = capsys.readouterr().out
    assert output.count(UNTRAINED) == 1
    assert output.index(UNTRAINED) < output.index("baselines:")
    assert json.loads((copied_run / FINDINGS).read_text())["untrained"] is True


def test_nothing_is_generated_in_a_rendered_run(copied_run: Path) -> None:
    _, text = rewritten(copied_run, source="rendered")
    body = text[text.index("linear probes by layer") : text.index("Reproduce this run")]
    assert not re.search(r"generate|finished", body)


def test_findings_are_those_of_the_tables(page: Page, small_run: Results) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads((small_run.path / FINDINGS).read_text(), parse_constant=refuse)
    table = [comparison_row(entry) for entry in comparisons(small_run)]
    assert [
        (entry["task"], str(entry["step"]), f"{entry['q']:.4f}")
        for entry in document["comparisons"]
    ] == [(row["task"], row["step"], row["q"]) for row in table]
    assert document["schema"] == FINDINGS_SCHEMA
    first = comparisons(small_run)[0]
    assert document["comparisons"][0]["layer"] == first.layer
    assert document["comparisons"][0]["baseline_score"] == first.baseline_score
    for name, task in small_run.tasks.items():
        computed = emergence(small_run, task)
        stored = document["emergence"][name]
        assert stored["steps"] == [step + 1 for step in small_run.steps]
        assert stored["final"]["mean"] == pytest.approx(computed.final.mean)
        assert (stored["emerged"] is None) == (computed.emerged is None)
        assert len(document["subsets"][name]["sizes"]) == 3
    for answer, stored in zip(discoveries(small_run), document["discoveries"], strict=True):
        assert len(stored["held"]) == answer.held.sum()
        assert stored["comparisons"] == answer.comparisons
    assert page.text


def test_comparisons_are_computed_once_for_page_file_and_terminal(
    copied_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Results] = []
    monkeypatch.setattr(
        "bench.analysis.findings.comparisons",
        lambda results: calls.append(results) or comparisons(results),
    )
    results = read_results(copied_run)
    write_report(results)
    print_run(results)
    assert "comparisons hold" in capsys.readouterr().out
    assert calls == [results]


def test_a_prompt_cannot_act(copied_run: Path) -> None:
    facts = json.loads((copied_run / "run.json").read_text())
    prompt = "<script>alert('x')</script><img src=x onerror=alert(1)> \"a\" & 'b' 日本"
    facts["strip_prompts"] = [prompt] * len(facts["strip_prompts"])
    (copied_run / "run.json").write_text(json.dumps(facts))
    hostile = Page(write_report(read_results(copied_run)).read_text(encoding="utf-8"))
    # The data of the scripts, the charts' library, and five scripts of the page.
    assert hostile.tags.count("script") == 7
    assert all(address.startswith("data:image/png;base64,") for address in hostile.loads)
    assert prompt in hostile.text
    assert json.loads(hostile.data)["prompts"][0] == prompt


@pytest.mark.parametrize(
    ("name", "write"), [("report.html", write_report), (FINDINGS, write_findings)]
)
def test_a_file_that_cannot_be_written_is_left_as_it_was(
    name: str, write: Callable[[Results], Path], copied_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = read_results(copied_run)
    write(results)
    before = (copied_run / name).read_bytes()

    def fill(self: Path, text: str, **_: object) -> None:
        """Write as much as fits on the disk."""
        if self.name.startswith(name):
            self.write_bytes(text[:100].encode())
            raise OSError(ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fill)
        with pytest.raises(UserError) as caught:
            write(results)
    command = shlex.quote(str(copied_run))
    assert str(caught.value).endswith(f"run: python -m bench report {command}")
    assert (copied_run / name).read_bytes() == before
    assert not [*copied_run.glob("*.partial")]


def test_the_report_is_written_again_to_the_same_bytes(small_run: Results) -> None:
    first = write_report(small_run).read_bytes()
    assert write_report(small_run).read_bytes() == first


def test_heat_rises_in_lightness() -> None:
    def lightness(value: float) -> float:
        red, green, blue = map(int, re.findall(r"\d+", heat(value, 0.0, 1.0)[0]))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    levels = [lightness(at) for at in np.linspace(0, 1, 21)]
    assert levels == sorted(levels)


def test_a_line_without_a_finite_point_is_left_out() -> None:
    nan = Score(float("nan"), float("nan"), float("nan"))
    lines = [Line("a", "trained", [(1, Score(0.5, 0.4, 0.6))]), Line("b", "both", [(1, nan)])]
    rows = rows_of(curve_chart(lines, [1, 2], [None, 0.5], "m"))
    # A single score holds at every step.
    assert [(row["curve"], row["step"], row["mean"]) for row in rows] == [
        ("a", 1, 0.5),
        ("a", 2, 0.5),
    ]


def test_pure_noise_is_left_out_along_the_log_snr() -> None:
    scores = [(1, Score(0.5, 0.4, 0.6)), (2, Score(0.7, 0.6, 0.8))]
    rows = rows_of(curve_chart([Line("a", "trained", scores)], [1, 2], [None, 0.5], "m", NOISE))
    assert [(row["step"], row["log_snr"], row["score"]) for row in rows] == [
        (2, 0.5, "0.700 [0.600, 0.800]")
    ]


def rows_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a chart's curves."""
    return next(rows for rows in spec["datasets"].values() if "curve" in rows[0])


def test_a_chart_is_what_the_schema_of_vega_lite_allows() -> None:
    import altair

    line = Line("a", "trained", [(1, Score(0.5, 0.4, 0.6)), (2, Score(0.7, 0.6, 0.8))])
    spec = curve_chart([line], [1, 2], [-1.0, 0.5], "m")
    altair.Chart.from_dict(spec).to_dict(validate=True)


def test_names_in_a_chart_are_escaped() -> None:
    line = Line("<b>", "trained", [(1, Score(0.5, 0.4, 0.6))])
    chart = svg(curve_chart([line], [1, 2], [None, None], "<i>"), '"><script>')
    assert "<script>" not in chart
    assert "<i>" not in chart
    assert chart.count("<svg") == 1


def test_shading_spans_the_whole_range() -> None:
    image = shaded(np.array([[0.0, 1.0]]), 0.0, 1.0)
    assert image[:, 0, 0].tolist() == [0, 34, 78]
    assert image[:, 0, 1].tolist() == [254, 232, 56]
