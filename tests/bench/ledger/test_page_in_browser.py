"""The page of a ledger in a real browser: filters, steps and curves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.ledger.entries import read_ledger
from bench.ledger.leaderboard import leaderboard
from bench.ledger.write import HTML, write_board
from tests.bench.ledger.synthetic import write_entry
from tests.browser import chromium, complaints, opened, uncomplaining, wait


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ledger")
    write_entry(folder, "alike", 0.6, 0.5, seed=1)
    write_entry(folder, "best", 0.7, 0.4, seed=2)
    write_entry(folder, "flow", 0.8, seed=4, sampler="DPMSolver", flow=True)
    entries = read_ledger(folder)
    write_board(leaderboard(entries), entries, folder)
    return folder / HTML


@pytest.fixture
def shown(browser: Any, page: Path) -> Iterator[Any]:
    with uncomplaining(browser, page) as showing:
        yield showing


def choose(browser: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", name)).select_by_visible_text(text)


def models(browser: Any) -> list[str]:
    rows = browser.find_elements("css selector", "tr[data-entry] th[scope='row']")
    return [row.text.split()[0] for row in rows if row.is_displayed()]


def said(browser: Any) -> str:
    return str(browser.find_element("id", "said").text)


def test_filters_leave_the_rows_and_curves_that_match(shown: Any) -> None:
    assert sorted(models(shown)) == ["alike", "best", "flow"]
    choose(shown, "objective", "rectified flow")
    assert models(shown) == ["flow"]
    assert said(shown) == "1 of 3 entries shown, scores at the last step"
    wait(shown, lambda: shown.find_elements("css selector", '[data-charts="log_snr 1"]'))
    curves = shown.find_elements("css selector", '[data-chart="saliency"] .mark-line path')
    names = shown.find_elements("css selector", '[data-task="saliency"] .legend li')
    assert [name.text for name in names if name.is_displayed()] == ["flow (abcdef)"]
    assert len(curves) == 1
    # No entry that is left has depth.
    assert not shown.find_element("css selector", '[data-chart="depth"]').is_displayed()
    choose(shown, "objective", "all")
    shown.find_element("id", "name").send_keys("ALI")
    assert models(shown) == ["alike"]


def test_a_task_leaves_its_column_and_the_entries_that_have_it(shown: Any) -> None:
    choose(shown, "task", "depth")
    assert sorted(models(shown)) == ["alike", "best"]
    headings = shown.find_elements("css selector", "thead th[data-task]")
    assert {th.text for th in headings if th.is_displayed()} == {"depth: rmse, lower is better"}


def test_scores_and_letters_are_those_of_the_chosen_step(shown: Any, page: Path) -> None:
    choose(shown, "step", "1")
    board = leaderboard(read_ledger(page.parent), step=1)
    for group in board.groups:
        for entry in group.entries:
            row = shown.find_element("css selector", f'tr[data-entry="{entry.entry}"]')
            cell = row.find_element("css selector", 'td[data-task="saliency"]')
            score = entry.tasks["saliency"].score
            assert cell.text.startswith(f"{score.mean:.3f} [{score.low:.3f}, {score.high:.3f}]")
            letters = cell.find_element("css selector", ".letters").text
            assert letters == entry.tasks["saliency"].letters
    assert said(shown) == "3 of 3 entries shown, scores at step 1"
    choose(shown, "step", "the last step")
    assert said(shown).endswith("at the last step")


def test_curves_can_be_drawn_along_the_steps(shown: Any) -> None:
    wait(shown, lambda: shown.find_elements("css selector", '[data-charts="log_snr 3"]'))
    figure = shown.find_element("css selector", '[data-chart="saliency"]')
    assert "log-SNR" in figure.text
    shown.find_element("css selector", 'input[value="step"]').click()
    wait(shown, lambda: shown.find_elements("css selector", '[data-charts="step 3"]'))
    assert "denoising step" in figure.text


@pytest.mark.parametrize(("width", "dark"), [(1600, True), (390, False)])
def test_nothing_is_wider_than_the_window(page: Path, width: int, dark: bool) -> None:
    with chromium(width, 900, dark) as browser:
        opened(browser, page)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert complaints(browser) == []
