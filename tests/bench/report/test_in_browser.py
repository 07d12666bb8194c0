"""The page of a run in a real browser: what appears after a click, a key and a slide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.figures.images import cividis
from bench.report.html import write_report
from bench.runs.results import Results
from probes.bootstrap import score_of
from tests.browser import chromium, complaints, opened, uncomplaining, wait
from tests.contrast import AA, contrast


@pytest.fixture(scope="module")
def page(small_run: Results) -> Path:
    return write_report(small_run)


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    with uncomplaining(browser, page) as showing:
        yield showing


def cell(browser: Any, row: int, column: int) -> Any:
    selector = f'.grid td[data-row="{row}"][data-column="{column}"]'
    return browser.find_element("css selector", selector)


def said(browser: Any) -> str:
    return browser.find_element("id", "said").text


def pixels(browser: Any, item: int, column: int) -> np.ndarray:
    """The canvas in a column of an item's row, as h x w x 3."""
    script = """
        const done = arguments[arguments.length - 1];
        const row = document.querySelector(`tr[data-item="${arguments[0]}"]`);
        const canvas = row.children[arguments[1]].querySelector("canvas");
        canvas.drawn.then(() => {
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            done([height, width, [...data]]);
        });
    """
    height, width, values = browser.execute_async_script(script, item, column)
    return np.array(values).reshape(height, width, 4)[..., :3]


def reading(results: Results, task: str, kind: str, layer: str, item: int, step: int) -> np.ndarray:
    levels = results.strips[f"map/{task}/{kind}/{layer}"][item, step, 0]
    return np.moveaxis(cividis(levels / 255).round(), 0, -1)


def choose(browser: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", name)).select_by_visible_text(text)


def test_a_click_shows_the_readings_and_scores_of_that_layer_and_step(
    shown: Any, small_run: Results
) -> None:
    layer = small_run.layers[1]
    cell(shown, 1, 2).click()
    task = small_run.tasks["saliency"]
    (chosen,) = task.where(network="trained", layer=layer, step=2, probe="activations")
    assert said(shown).startswith(
        f"saliency, activations, {layer}, step 3: dice {score_of(task.score(chosen))}"
    )
    assert cell(shown, 1, 2).get_attribute("aria-selected") == "true"
    for item in (0, 3):
        expected = reading(small_run, "saliency", "activations", layer, item, 2)
        assert np.abs(pixels(shown, item, 2) - expected).max() <= 1
    headings = [th.text for th in shown.find_elements("css selector", ".readings th")]
    assert headings == [
        "decoded image, step 3",
        "predicted clean image",
        f"reading of {layer}, step 3",
        "label",
        "finished image",
    ]
    assert small_run.record.strip_prompts[0] in shown.find_element("id", "readings").text


def test_the_decoded_image_is_that_of_the_step(shown: Any, small_run: Results) -> None:
    for column in (0, 3):
        cell(shown, 0, column).click()
        expected = np.moveaxis(small_run.strips[f"decoded/{column}"][1], 0, -1).astype(float)
        # JPEG loses a little.
        assert np.abs(pixels(shown, 1, 0) - expected).mean() < 8
        clean = np.moveaxis(small_run.strips[f"clean/{column}"][1], 0, -1).astype(float)
        assert np.abs(pixels(shown, 1, 1) - clean).mean() < 8


def test_the_keyboard_moves_through_the_grid_and_is_followed_in_words(
    shown: Any, small_run: Results
) -> None:
    from selenium.webdriver.common.keys import Keys

    cell(shown, 0, 0).click()
    active = shown.switch_to.active_element
    active.send_keys(Keys.ARROW_RIGHT)
    shown.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert f"{small_run.layers[1]}, step 2:" in said(shown)
    shown.switch_to.active_element.send_keys(Keys.END)
    assert f"{small_run.layers[1]}, step 4:" in said(shown)
    focused = shown.switch_to.active_element
    assert (focused.get_attribute("data-row"), focused.get_attribute("data-column")) == ("1", "3")
    # One cell can be reached by the tabulator; the live region is polite.
    assert len(shown.find_elements("css selector", '.grid td[tabindex="0"]')) == 1
    assert shown.find_element("id", "said").get_attribute("aria-live") == "polite"


def test_the_slider_steps_through_the_denoising(shown: Any, small_run: Results) -> None:
    from selenium.webdriver.common.keys import Keys

    slider = shown.find_element("id", "step")
    slider.send_keys(Keys.HOME)
    assert "step 1:" in said(shown)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert "step 2:" in said(shown)
    level = f"{abs(small_run.record.log_snr[1]):.2f}"
    assert slider.get_attribute("aria-valuetext").startswith("step 2 of 4, log-SNR ")
    assert slider.get_attribute("aria-valuetext").endswith(level)


def test_play_ends_at_the_last_step(shown: Any) -> None:
    shown.find_element("id", "step").send_keys("\ue011")
    shown.find_element("id", "play").click()
    wait(shown, lambda: "step 4:" in said(shown))
    wait(shown, lambda: shown.find_element("id", "play").text == "Play")


def test_task_and_kind_of_probe_can_be_switched(shown: Any, small_run: Results) -> None:
    layer = small_run.layers[2]
    cell(shown, 2, 1).click()
    choose(shown, "task", "depth")
    assert said(shown).startswith(f"depth, activations, {layer}, step 2: rmse ")
    choose(shown, "kind", "permuted labels")
    assert said(shown).startswith(f"depth, permuted labels, {layer}, step 2: rmse ")
    expected = reading(small_run, "depth", "permuted labels", layer, 0, 1)
    assert np.abs(pixels(shown, 0, 2) - expected).max() <= 1
    task = small_run.tasks["depth"]
    draws = task.where(network="trained", layer=layer, step=1, probe="permuted")
    mean = np.mean([task.score(draw) for draw in draws])
    assert cell(shown, 2, 1).text == f"{mean:.3f}"
    wait(shown, lambda: shown.find_elements("css selector", '[data-charts="depth step"]'))


def test_the_axis_can_be_the_log_snr(shown: Any, small_run: Results) -> None:
    shown.find_element("css selector", 'input[value="log_snr"]').click()
    wait(shown, lambda: shown.find_elements("css selector", '[data-charts="saliency log_snr"]'))
    headings = [th.text for th in shown.find_elements("css selector", ".grid thead th")][1:]
    levels = [float(text) for text in headings]
    assert levels == pytest.approx(small_run.record.log_snr, abs=0.06)
    assert "log-SNR" in shown.find_element("id", "curves").text


def test_hovering_shows_the_interval_and_the_controls(shown: Any, small_run: Results) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    tip = shown.find_element("id", "tip")
    assert not tip.is_displayed()
    # Scrolling hides it, so the cell is brought into view first.
    cell(shown, 1, 0).click()
    ActionChains(shown).move_to_element(cell(shown, 1, 3)).perform()
    task = small_run.tasks["saliency"]
    (chosen,) = task.where(
        network="trained", layer=small_run.layers[1], step=3, probe="activations"
    )
    assert f"activations {score_of(task.score(chosen))}" in tip.text
    for control in ("permuted labels", "permuted weights", "the latent itself", "position alone"):
        assert control in tip.text


def test_a_choice_can_be_linked_to(browser: Any, page: Path, small_run: Results) -> None:
    layer = small_run.layers[2]
    browser.get("about:blank")
    opened(browser, page, f"#depth/activations/{layer}/3/step")
    assert said(browser).startswith(f"depth, activations, {layer}, step 3:")


def test_a_damaged_address_is_left_aside(browser: Any, page: Path) -> None:
    browser.get("about:blank")
    complaints(browser)
    opened(browser, page, "#100%")
    assert browser.find_element("id", "explorer").is_displayed()
    assert said(browser).startswith("saliency, activations, ")
    assert complaints(browser) == []


def test_curves_have_a_name_that_follows_the_choice(shown: Any, small_run: Results) -> None:
    def name() -> str:
        return str(shown.find_element("id", "curves").get_attribute("aria-label"))

    assert name() == "saliency: dice by denoising step"
    choose(shown, "task", "depth")
    wait(shown, lambda: name().startswith("depth: rmse"))
    shown.find_element("css selector", 'input[value="log_snr"]').click()
    wait(shown, lambda: "log-SNR" in name())


def test_text_in_the_grid_can_be_read_on_every_colour(shown: Any) -> None:
    script = """
        const data = JSON.parse(document.getElementById("data").textContent);
        const task = { higher: true, range: [0, 1] };
        return Array.from({ length: 1001 }, (_, index) => colourOf(data, task, index / 1000));
    """
    for background, text in shown.execute_script(script):
        assert contrast(background, text) >= AA, background


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1600, 1000), (390, 844)])
def test_nothing_is_wider_than_the_window(page: Path, width: int, height: int, dark: bool) -> None:
    with chromium(width, height, dark) as browser:
        opened(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(22, 23, 26)") == dark
        assert cell(browser, 0, 0).is_displayed()
        assert complaints(browser) == []


def test_print_has_the_static_charts_instead(shown: Any) -> None:
    static = shown.find_elements("css selector", ".static svg")
    assert static
    assert not any(chart.is_displayed() for chart in static)
    shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert all(chart.is_displayed() for chart in static)
        assert not shown.find_element("id", "explorer").is_displayed()
    finally:
        shown.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_run_of_an_older_version_says_what_it_lacks(
    browser: Any, small_run: Results, tmp_path: Path
) -> None:
    new = ("map/", "decoded/", "clean/")
    strips = {name: v for name, v in small_run.strips.items() if not name.startswith(new)}
    page = write_report(replace(small_run, path=tmp_path, strips=strips))
    browser.get("about:blank")
    complaints(browser)
    opened(browser, page)
    cell(browser, 1, 2).click()
    assert "made by an older version" in browser.find_element("id", "readings").text
    assert f"{small_run.layers[1]}, step 3: dice 0." in said(browser)
    assert complaints(browser) == []
