"""axe-core on the report in a browser: what it calls serious or critical is not there, by day, by night, on a phone."""

from importlib.resources import files

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import DESKTOP, PHONE, browser, load

SERIOUS = {"serious", "critical"}
PACKAGE = "axe_playwright_python"  # its axe.min.js alone is of use here
SECONDS = 120  # that axe may take on a busy machine
RUN = """
const done = arguments[0];
axe.run({ preload: false }).then(done, (error) => done({ error: String(error) }));
"""


def found_by_axe(driver):
    """(rule, impact, where first) of each violation."""
    driver.set_script_timeout(SECONDS)
    driver.execute_script((files(PACKAGE) / "axe.min.js").read_text())
    found = driver.execute_async_script(RUN)
    assert len(found["passes"]) > 20, found
    return [(v["id"], v["impact"], v["nodes"][0]["html"][:200]) for v in found["violations"]]


@pytest.mark.parametrize(
    ("size", "dark"), [(DESKTOP, False), (DESKTOP, True), (PHONE, False)], ids=["day", "night", "phone"]
)
def test_axe_finds_nothing_serious(sweep, size, dark):
    with browser(*size, dark=dark) as driver:
        load(driver, sweep[1].report.as_uri())
        driver.execute_script("document.querySelectorAll('details').forEach((box) => { box.open = true; })")
        for box in driver.find_elements(By.CSS_SELECTOR, ".pick")[:2]:
            box.send_keys(Keys.SPACE)
        assert driver.find_elements(By.CSS_SELECTOR, "#compared svg.plot")
        assert [violation for violation in found_by_axe(driver) if violation[1] in SERIOUS] == []


def test_axe_finds_what_is_planted(page):
    page.execute_script("document.querySelector('main').append(document.createElement('button'))")
    assert ("button-name", "critical") in [violation[:2] for violation in found_by_axe(page)]
