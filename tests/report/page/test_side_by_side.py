"""Two trials side by side: what the page holds for that, and what a browser makes of it."""

import csv
import io
import json
import re
from urllib.parse import unquote

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.records import record
from tests.report.test_report import content
from toconv.report.page.side_by_side import MOST_POINTS, as_script, side_by_side
from toconv.training.epochs import Epoch, read_epochs


def held(made):
    return json.loads(re.search(r"id=trials>(.*?)</script>", side_by_side(made))[1])


def test_the_page_holds_the_curves_of_every_trial_at_most_so_many_points_of_each():
    epochs = [Epoch(i, 0, 0.0, {"distortion": 1 / i, "L_disc": 2.0}) for i in range(1, 501)]
    made = content([record("a", 16, 0.5), record("b", 16, 0.6)], epochs={"a": epochs, "b": epochs[:3]})
    found = held(made)
    names = list(found["curves"])
    points = {row[0]: dict(zip(names, row[1:], strict=True)) for row in found["epochs"]["a"]}
    assert len(points) <= MOST_POINTS and max(points) == 500 and points[500]["distortion"] == 0.002
    assert [row[0] for row in found["epochs"]["b"]] == [1, 2, 3] and points[500]["L_disc"] == 2.0


def test_what_it_holds_is_no_markup():
    assert as_script({"<!--": "</script>&"}) == '{"\\u003c!--":"\\u003c/script\\u003e\\u0026"}'


def test_one_trial_has_nothing_beside_it():
    assert "Two trials are needed" in side_by_side(content([record("a", 16, 0.5)]))


@pytest.fixture
def two(results):
    """Two trials of another λ, with the same number of tokens."""
    return [t for t, r in results.items() if r["kind"] == "trial" and r["tokens"] == "9"][:2]


def box(page, trial):
    return page.find_element(By.CSS_SELECTOR, f'#rows tr[data-trial="{trial}"] .pick')


def lines(page, caption):
    """{first cell: the others} of a table of the comparison."""
    return page.execute_script(
        """
        const tables = [...document.querySelectorAll("#compared table")];
        const table = tables.find((t) => t.caption.textContent.startsWith(arguments[0]));
        return Object.fromEntries([...table.tBodies[0].rows].map((r) => [...r.cells].map((c) => c.textContent))
          .map(([name, ...rest]) => [name, rest]));""",
        caption,
    )


def test_two_rows_chosen_by_the_keyboard_show_what_differs_and_the_same_curves_and_pictures(page, results, two, sweep):
    for trial in two:
        box(page, trial).send_keys(Keys.SPACE)
    a, b = (results[trial] for trial in two)
    settings = lines(page, "Settings that differ")
    differing = {name for name in a if "." in name and a[name] != b[name]}
    assert set(settings) == differing and differing
    found = lines(page, "Results")
    assert float(found["distortion"][2]) == pytest.approx(float(b["distortion"]) - float(a["distortion"]), abs=1e-4)
    plots = page.find_elements(By.CSS_SELECTOR, "#compared svg.plot")
    assert len(plots) > 4 and f"{a['name']} and {b['name']}" in plots[0].get_dom_attribute("aria-label")
    link = page.find_element(By.CSS_SELECTOR, "#compared a.csv").get_dom_attribute("href")
    rows = list(csv.reader(io.StringIO(unquote(link.partition(",")[2]))))
    assert rows[0] == ["curve", "epoch", a["name"], b["name"]]
    for trial, column in zip(two, (2, 3), strict=True):
        expected = [e.metrics["distortion"] for e in read_epochs(sweep[1].trial(trial).metrics)]
        assert [float(r[column]) for r in rows if r[0] == "distortion"] == pytest.approx(expected, rel=1e-5)
    y = page.execute_script("""
        return [...document.querySelector("#compared svg.plot").querySelectorAll(".point")].map((p) =>
          [Number(p.getAttribute("aria-label").split(" ").at(-1)), p.transform.baseVal[0].matrix.f])""")
    (low, bottom), (high, top) = min(y), max(y)
    assert all(at == pytest.approx(bottom + (v - low) / (high - low) * (top - bottom), abs=0.1) for v, at in y)
    kept = [t for t in two if sweep[1].trial(t).latest.exists()]
    assert len(page.find_elements(By.CSS_SELECTOR, "#compared img.map")) == 2 * len(kept)
    for trial in set(two) - set(kept):
        assert f"{results[trial]['name']}: no error maps" in page.find_element(By.ID, "compared").text


def test_a_click_chooses_a_row_a_third_one_takes_the_place_of_the_first_and_clear_ends_it(page, results):
    every = [t for t, r in results.items() if r["kind"] == "trial"][:3]
    said = page.find_element(By.ID, "chosen")
    for trial in every:
        row = page.find_element(By.CSS_SELECTOR, f'#rows tr[data-trial="{trial}"]')
        page.execute_script("arguments[0].cells[1].click()", row)
        assert said.is_displayed() and results[trial]["name"] in said.text
    assert [t for t in every if box(page, t).is_selected()] == every[1:]
    title = page.find_element(By.CSS_SELECTOR, "#compared h3").text
    assert title == " and ".join(results[t]["name"] for t in every[1:])
    page.execute_script("arguments[0].querySelector('button').click()", said)
    assert not page.find_elements(By.CSS_SELECTOR, "#compared > *") and not said.is_displayed()
    baseline = next(t for t, r in results.items() if r["kind"] == "baseline")
    assert not page.find_elements(By.CSS_SELECTOR, f'#rows tr[data-trial="{baseline}"] .pick')
