"""A headless Chromium for tests of pages; tests are skipped where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
)


@contextmanager
def chromium(width: int = 1600, height: int = 1000, dark: bool = False) -> Iterator[Any]:
    """Yield a WebDriver; skip the test, and say why, where Chromium or Selenium is missing."""
    reason = "install them with: apt-get install chromium chromium-driver"
    binary = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip(f"no Chromium or no ChromeDriver; {reason}")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    browser = webdriver.Chrome(options=options, service=service)
    try:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        yield browser
    finally:
        browser.quit()


def opened(browser: Any, page: Path, fragment: str = "") -> None:
    """Open a page and wait for its charts."""
    browser.get(f"{page.resolve().as_uri()}{fragment}")
    wait(browser, lambda: browser.find_elements("css selector", "[data-charts]"))


@contextmanager
def uncomplaining(
    browser: Any, page: Path, show: Callable[[Any, Path], None] = opened
) -> Iterator[Any]:
    """Show a page anew; afterwards it must have left no error, no warning and no request."""
    browser.get("about:blank")
    complaints(browser), requested(browser)
    show(browser, page)
    yield browser
    assert complaints(browser) == []
    assert requested(browser) == {page.resolve().as_uri()}


def wait(browser: Any, condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until a condition holds."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(browser, seconds, poll_frequency=0.05).until(lambda _: condition())


def complaints(browser: Any) -> list[str]:
    """Messages of the console since the last call: errors and warnings."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requested(browser: Any) -> set[str]:
    """Addresses that the pages asked for since the last call, without data addresses."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    urls = (
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    )
    return {url for url in urls if not url.startswith("data:")}
