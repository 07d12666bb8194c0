"""The section on interventions in a real browser: sliders, charts and heat maps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.report.html import write_report
from bench.runs.results import Results, read_results
from tests.bench.report.intervention_records import METHODS, write_all
from tests.browser import chromium, complaints, opened, uncomplaining, wait

RIGHT, END, HOME = "\ue014", "\ue010", "\ue011"


@pytest.fixture(scope="module")
def page(small_run: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(small_run.path, tmp_path_factory.mktemp("interventions") / "run"))
    write_all(path)
    return write_report(read_results(path))


def drawn(browser: Any, page: Path) -> None:
    """Open the page and wait for the charts of both experiments."""
    opened(browser, page)
    wait(browser, lambda: len(found(browser, "[data-drawn]")) == 2)


def found(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    with uncomplaining(browser, page, drawn) as showing:
        yield showing


def clipped(browser: Any, number: int) -> str:
    script = (
        "return getComputedStyle(document.querySelectorAll('.shot.after')[arguments[0]]).clipPath"
    )
    return str(browser.execute_script(script, number))


def test_the_keyboard_wipes_between_the_images_of_one_item(shown: Any) -> None:
    slider = found(shown, ".wipe input")[1]
    assert clipped(shown, 1) == "inset(0px 0px 0px 50%)"
    slider.send_keys(RIGHT)
    assert clipped(shown, 1) == "inset(0px 0px 0px 51%)"
    slider.send_keys(HOME)
    assert clipped(shown, 1) == "inset(0px 0px 0px 0%)"
    slider.send_keys(END)
    assert clipped(shown, 1) == "inset(0px 0px 0px 100%)"
    assert slider.get_attribute("aria-valuetext") == "100 % unedited, 0 % edited"
    assert slider.get_attribute("aria-label").startswith("b: ")
    assert clipped(shown, 0) == clipped(shown, 2) == "inset(0px 0px 0px 50%)"


def test_the_pointer_wipes_on_the_image(shown: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    stage = found(shown, ".stage")[0]
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", stage)
    width = stage.size["width"]
    actions = ActionChains(shown).move_to_element(stage).click_and_hold()
    actions.move_by_offset(round(width / 4), 0).release().perform()
    assert abs(int(found(shown, ".wipe input")[0].get_attribute("value")) - 75) <= 1
    ActionChains(shown).move_by_offset(-round(width / 2), 0).perform()
    assert abs(int(found(shown, ".wipe input")[0].get_attribute("value")) - 75) <= 1


def test_gains_over_random_directions_can_be_chosen(shown: Any) -> None:
    part = found(shown, '[data-effects="saliency"]')[0]
    assert "gain over no edit (dice shifted)" in part.text
    part.find_element("css selector", 'input[value="random"]').click()
    wait(shown, lambda: part.get_attribute("data-drawn") == "random")
    assert "gain over a random direction (dice shifted)" in part.text
    assert "gain over no edit" not in part.text
    assert part.text.count("at the edge") == 2
    other = found(shown, '[data-effects="depth-farther"]')[0]
    assert other.get_attribute("data-drawn") == "null"
    labels = [
        chart.get_attribute("aria-label") for chart in found(shown, "[data-effects] [data-kind]")
    ]
    assert [label.rpartition(" over ")[2] for label in labels] == [
        *(2 * ["no edit"]),
        *(2 * ["a random direction"]),
    ]
    assert all(method in part.text for method in METHODS)


def test_a_point_tells_its_figures(shown: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    chart = found(shown, '[data-effects="saliency"] [data-kind="curves"]')[0]
    shown.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    points = chart.find_elements("css selector", ".mark-symbol")[-1]
    point = points.find_elements("css selector", "path")[3]
    ActionChains(shown).move_to_element(point).perform()
    wait(shown, lambda: found(shown, "#vg-tooltip-element.visible"))
    text = found(shown, "#vg-tooltip-element")[0].text
    for word in ("pattern", "8", "0.300 [0.260, 0.340]", "0.062", "chosen"):
        assert word in text


def test_tables_can_be_opened(shown: Any) -> None:
    part = found(shown, '[data-experiment="saliency"]')[0]
    summaries = part.find_elements("css selector", "details > summary")
    assert len(summaries) == 3
    for summary in summaries:
        table = summary.find_element("xpath", "..").find_element("css selector", "table")
        assert not table.is_displayed()
        summary.click()
        assert table.is_displayed()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (400, 800)])
def test_every_part_fits_into_the_window(page: Path, width: int, height: int, dark: bool) -> None:
    with chromium(width, height, dark) as browser:
        drawn(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        for selector, count in ((".wipe", 6), ("[data-kind] svg", 4), (".cells", 2 + 6)):
            parts = found(browser, f"#interventions {selector}")
            assert len(parts) == count
            for part in parts:
                assert part.is_displayed()
                assert part.rect["x"] >= 0
                assert part.rect["x"] + part.rect["width"] <= width
        assert complaints(browser) == []


def test_without_scripts_both_images_are_shown_side_by_side(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.resolve().as_uri())
        # Without scripts the browser does not tell when it has read the whole page.
        count = page.read_text(encoding="utf-8").count('<span class="shot after">')
        assert count > 0
        wait(browser, lambda: len(found(browser, ".shot.after")) == count)
        wait(browser, lambda: len(found(browser, "#interventions [data-kind] svg")) == 4)
        for before, after in zip(
            found(browser, ".shot.before"), found(browser, ".shot.after"), strict=True
        ):
            assert before.rect["width"] == pytest.approx(after.rect["width"], abs=1)
            assert before.rect["x"] + before.rect["width"] <= after.rect["x"]
            assert before.rect["y"] == after.rect["y"]
            assert after.value_of_css_property("clip-path") == "none"
        assert not any(part.is_displayed() for part in found(browser, ".wipe input, .over"))
        charts = found(browser, "#interventions [data-kind] svg")
        assert len(charts) == 4
        assert all(chart.is_displayed() for chart in charts)
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
