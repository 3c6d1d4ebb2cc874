"""Headless Chromium for tests: what a page looks like, what it logs and what it asks the network for."""

import json
import os
import shutil
import tempfile
from contextlib import contextmanager

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-features=OptimizationHints,MediaRouter",
    "--hide-scrollbars",
)


def found():
    """(chromium, chromedriver). Skips the test where one is missing; in CI that is a failure."""
    paths = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not all(paths):
        reason = "no chromium with its chromedriver on this machine (Debian: chromium chromium-driver)"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI they must be there")
        pytest.skip(reason)
    return paths


DESKTOP, PHONE = (1280, 900), (360, 740)  # CSS pixels
LOAD_SECONDS = 60


@contextmanager
def browser(width, height, dark=False):
    """A driver whose page is `width`×`height` CSS pixels, in light or in dark mode, with a profile of its own."""
    chromium, chromedriver = found()
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = chromium
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={max(width, 500)},{height}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(chromedriver))
        try:
            driver.get("about:blank")
            requested(driver)  # what Chromium's own first page asked for
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride",
                {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
            )
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia",
                {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]},
            )
            yield driver
        finally:
            driver.quit()


def load(driver, address):
    """The page at `address`, whole. On a busy machine Chromium's driver calls a page of a file loaded before all
    of it is there: one in nine, of a report of 1.2 MB beside four busy processes."""
    driver.get(address)
    WebDriverWait(driver, LOAD_SECONDS).until(
        lambda _: driver.execute_script("return document.readyState") == "complete", f"{address} did not load"
    )


def console(driver):
    """Warnings and errors that the pages logged since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in {"WARNING", "SEVERE"}]


def requested(driver):
    """The addresses that the pages asked for since the last look at the network, in order."""
    return [event["request"]["url"] for event in _network(driver, "requestWillBeSent")]


def refused(driver):
    """(address, reason) of requests since the last look at the network that Chromium itself did not let out."""
    events = _network(driver, "requestWillBeSent", "loadingFailed")
    asked = {event["requestId"]: event["request"]["url"] for event in events if "request" in event}
    return [(asked[event["requestId"]], event["blockedReason"]) for event in events if "blockedReason" in event]


def _network(driver, *kinds):
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [event["params"] for event in events if event["method"] in {f"Network.{kind}" for kind in kinds}]


def into_view(driver, element):
    """Scrolls there, and waits until the page has heard of it."""
    driver.execute_async_script(
        """
        arguments[0].scrollIntoView({ block: "center", behavior: "instant" });
        requestAnimationFrame(() => requestAnimationFrame(arguments[1]));""",
        element,
    )
