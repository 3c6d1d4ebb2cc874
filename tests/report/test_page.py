"""report.html of a finished sweep as people meet it: in a browser, at a desk and on a phone, in light and in dark."""

from pathlib import Path

import pytest
import torch
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser import DESKTOP, PHONE, browser, console, into_view, load, refused, requested
from toconv.analysis.records import Kind, State, TrialRecord
from toconv.evaluation.distortion import Distortion
from toconv.export.from_checkpoint import from_checkpoint
from toconv.report.error_maps import compute_error_maps
from toconv.report.front_data import SHAPE_OF
from toconv.sweep.file import load_sweep
from toconv.sweep.recorded import recorded_sweep
from toconv.tokens.batches import Batches
from toconv.tokens.store import TokenStore

pytestmark = pytest.mark.slow
CONTRAST = """
const channel = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const colour = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n[3] === 0 ? null : n; };
const behind = (e) => { for (; e; e = e.parentElement) {
  const found = colour(getComputedStyle(e).backgroundColor); if (found) return found; } };
const found = [];
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const e = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !e.getClientRects().length || /SCRIPT|STYLE/.test(e.tagName)) continue;
  const style = getComputedStyle(e), front = colour(e instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(front), light(behind(e))];
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), texts.currentNode.data.trim()]);
}
return [found.length, found.sort((a, b) => a[0] - b[0])[0]];
"""


def background(driver):
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_renders_without_errors_or_requests_and_can_be_read(sweep, size, dark):
    with browser(*size, dark=dark) as driver:
        address = sweep[1].report.as_uri()
        load(driver, address)
        for box in driver.find_elements(By.TAG_NAME, "summary"):
            driver.execute_script("arguments[0].parentElement.open = true", box)
        assert console(driver) == []
        found = requested(driver)
        assert found[0] == address and all(url.startswith("data:") for url in found[1:])
        width, inner = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert inner == size[0] and width <= inner
        assert (background(driver) == "rgb(255, 255, 255)") != dark
        count, (worst, text) = driver.execute_script(CONTRAST)
        assert count > 300 and worst >= 4.5, f"{text!r} has a contrast of {worst:.2f}"


def test_no_request_can_leave_the_page(page):
    blocked = page.execute_async_script("""
        const done = arguments[0];
        document.addEventListener("securitypolicyviolation", (event) => done(event.blockedURI), { once: true });
        new Image().src = "http://127.0.0.1:9/x.png";""")
    assert blocked.startswith("http://127.0.0.1:9")
    assert [reason for url, reason in refused(page) if url == blocked] == ["csp"]
    assert len(console(page)) == 1  # which says so


def test_its_rows_are_those_of_the_results(page, results):
    shown = page.execute_script("""
        return [...document.querySelectorAll("#rows tbody tr")].map((row) => [row.dataset.trial,
          Object.fromEntries([...row.cells].map((cell) => [cell.dataset.name,
            cell.dataset.value ?? cell.textContent]))]);""")
    assert len(shown) == len(results) > 20
    for trial, cells in shown:
        for name, value in results[trial].items():
            if name == "mlflow_run_id" or (value == "" and name not in cells):
                continue
            assert cells[name] == value or float(cells[name]) == float(value), (trial, name)


@pytest.mark.parametrize(
    "metric, pictures, column",
    [
        ("distortion", "validation", "distortion"),
        ("embedding_agreement", "validation", "embedding_agreement"),
        ("perception", "test", "test_perception"),
    ],
)
def test_choosing_a_metric_shows_its_points_and_no_others(page, results, metric, pictures, column):
    place = page.find_element(By.CSS_SELECTOR, "#front .views")
    before = place.find_element(By.CSS_SELECTOR, ".view.on").get_dom_attribute("data-metric")
    for key, value in (("metric", metric), ("pictures", pictures)):
        button = place.find_element(By.CSS_SELECTOR, f'button[data-key="{key}"][data-value="{value}"]')
        into_view(page, button)
        button.click()
        assert button.get_dom_attribute("aria-pressed") == "true"
    (view,) = [v for v in place.find_elements(By.CLASS_NAME, "view") if v.is_displayed()]
    assert before == "distortion" and view.get_dom_attribute("data-metric") == metric
    points = {
        p.get_dom_attribute("data-trial"): float(p.get_dom_attribute("data-value"))
        for p in view.find_elements(By.CSS_SELECTOR, ".point[data-trial]")
    }
    expected = {
        t: float(r[column])
        for t, r in results.items()
        if r[column] and r["kind"] != "finalist" and (r["kind"] == "trial" or r["name"] in SHAPE_OF)
    }
    assert points == expected and len(points) >= 12


def test_points_lie_where_their_values_do(page):
    places = page.execute_script("""
        return [...document.querySelectorAll("#front > .views .view.on .wide-plot .point[data-value]")].map(
          (p) => [Number(p.dataset.value), p.transform.baseVal[0].matrix.f]);""")
    (low, bottom), (high, top) = min(places), max(places)
    for value, y in places:
        assert y == pytest.approx(bottom + (value - low) / (high - low) * (top - bottom), abs=0.11)
    assert bottom > top


def test_baselines_can_be_hidden_for_a_closer_look(page):
    button = page.find_element(By.CSS_SELECTOR, '#front > .views button[data-value="hidden"]')
    into_view(page, button)
    shown = "#front > .views:first-of-type .view.on .point.baseline"
    assert page.find_elements(By.CSS_SELECTOR, shown)
    button.click()
    assert not page.find_elements(By.CSS_SELECTOR, shown)
    assert page.find_elements(By.CSS_SELECTOR, "#front > .views:first-of-type .view.on .point.trial")


def test_what_is_not_shown_first_stands_folded_with_a_figure_and_numbers_of_each(page, results):
    box = page.find_element(By.XPATH, "//section[@id='front']/details[summary[starts-with(., 'What else')]]")
    into_view(page, box)
    assert not box.find_element(By.CSS_SELECTOR, ".view.on").is_displayed()
    box.find_element(By.TAG_NAME, "summary").click()
    assert box.find_element(By.CSS_SELECTOR, ".view.on").is_displayed()
    heads = {cell.get_dom_attribute("data-name") for cell in box.find_elements(By.CSS_SELECTOR, "th")}
    folded = {"embedding_read", "segmentation_restored", "last_layer_read_hard"}
    assert folded <= heads & set(next(iter(results.values()))) and "last_layer_read" not in heads
    offered = {
        b.get_dom_attribute("data-value") for b in box.find_elements(By.CSS_SELECTOR, "button[data-key=measure]")
    }
    assert folded <= offered


def test_the_keyboard_reaches_a_point_and_its_reading_appears(page, results):
    page.execute_script("document.querySelector('#front .choices button').focus({preventScroll: true})")
    for _ in range(12):
        ActionChains(page).send_keys(Keys.TAB).perform()
        focused = page.switch_to.active_element
        if "point" in (focused.get_dom_attribute("class") or ""):
            break
    reading = page.find_element(By.ID, "reading")
    first = focused.get_dom_attribute("aria-label")
    assert "point" in focused.get_dom_attribute("class") and reading.is_displayed() and reading.text == first
    outline = page.execute_script("return getComputedStyle(arguments[0].querySelector('.reach')).stroke", focused)
    assert outline != "none"
    seen = {first}
    for _ in range(4):
        ActionChains(page).send_keys(Keys.ARROW_RIGHT).perform()
        seen.add(page.switch_to.active_element.get_dom_attribute("aria-label"))
        assert reading.text == page.switch_to.active_element.get_dom_attribute("aria-label")
    assert len(seen) > 2
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not reading.is_displayed()


def test_pointing_at_a_trial_reads_its_settings_and_values(page, results):
    point = page.find_element(By.CSS_SELECTOR, "#front .view.on .point.baseline.random")
    into_view(page, point)
    ActionChains(page).move_to_element(point).perform()
    row, reading = results[point.get_dom_attribute("data-trial")], page.find_element(By.ID, "reading")
    assert reading.is_displayed()
    assert f"{row['name']}, {row['tokens']} tokens: distortion {float(row['distortion']):.4g}" in reading.text
    box = reading.rect
    assert box["x"] >= 0 and box["x"] + box["width"] <= DESKTOP[0]


def test_a_heading_sorts_by_size_there_and_back(page):
    head = page.find_element(By.CSS_SELECTOR, '#rows th[data-name="perception"]')
    button = head.find_element(By.TAG_NAME, "button")

    def values():
        found = page.execute_script("""
            return [...document.querySelectorAll('#rows td[data-name="perception"]')].map((c) => c.dataset.value)""")
        return [float(v) for v in found if v is not None]

    assert head.get_dom_attribute("aria-sort") == "none"
    for key, order, sign in ((Keys.ENTER, "ascending", 1), (Keys.SPACE, "descending", -1)):
        button.send_keys(key)
        assert head.get_dom_attribute("aria-sort") == order
        assert values() == sorted(values(), key=lambda v: sign * v) and len(set(values())) > 5


def test_it_reads_without_a_script(sweep):
    with browser(*PHONE) as driver:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
        load(driver, sweep[1].report.as_uri())
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        views = driver.find_elements(By.CSS_SELECTOR, "#front > .views .view")
        assert all(v.is_displayed() != ("extra" in v.get_dom_attribute("class")) for v in views) and len(views) > 8
        assert not driver.find_element(By.CSS_SELECTOR, ".choices").is_displayed()
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_on_paper_everything_is_there_and_the_page_is_white(sweep):
    with browser(*DESKTOP, dark=True) as driver:
        load(driver, sweep[1].report.as_uri())
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
        )
        driver.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert background(driver) == "rgb(255, 255, 255)"
        for view in driver.find_elements(By.CSS_SELECTOR, "#front .view"):
            assert view.is_displayed() != ("extra" in view.get_dom_attribute("class"))
        assert all(d.get_dom_attribute("open") is not None for d in driver.find_elements(By.TAG_NAME, "details"))
        assert not driver.find_element(By.TAG_NAME, "nav").is_displayed()
        driver.execute_script("dispatchEvent(new Event('afterprint'))")
        assert not driver.find_elements(By.CSS_SELECTOR, "details[open]")


def test_every_figure_says_in_words_what_it_shows(page):
    plots = page.find_elements(By.CSS_SELECTOR, "svg.plot, img")
    words = [p.get_dom_attribute("aria-label") or p.get_dom_attribute("alt") for p in plots]
    assert len(plots) > 20 and all(w and len(w) > 3 for w in words)


def test_it_says_what_the_sweep_is_and_how_to_reproduce_it(page):
    text = page.find_element(By.ID, "overview").text
    assert "Which k is <enough>?" in text and "8 train, 2 val, 2 test pictures" in text
    text = page.find_element(By.ID, "reproduce").text
    assert "run_sweep.py" in text and "torch 2" in text


def test_figures_lie_beside_the_report(sweep):
    names = {p.name for p in sweep[1].figures.iterdir()}
    assert {
        "front_distortion.png",
        "front_test_embedding_agreement.pdf",
        "distortion_perception.png",
        "error_maps.png",
    } <= names


def store_of(settings, paths):
    return settings.data.tokens_dir / recorded_sweep(paths)[1]


def trial(trial_id, folder):
    return TrialRecord(trial_id, "k=3/0", Kind.TRIAL, State.COMPLETE, "k=3", 9, {}, {}, None, folder, None)


def test_the_mean_of_a_map_is_the_pictures_distortion(sweep, results):
    path, paths = sweep
    settings = load_sweep(path, []).base
    tokens = store_of(settings, paths)
    best = min(
        (r for r in results.values() if r["kind"] == "trial" and r["tokens"] == "9"),
        key=lambda r: float(r["distortion"]),
    )
    record = trial(best["trial_id"], paths.trial(best["trial_id"]).folder)
    found = compute_error_maps(settings, tokens, {9: record}, [record])
    assert len(found.pictures) == 2 and not found.absent
    store = TokenStore(tokens)
    images = torch.cat(list(Batches(store, "val", 8, torch.device("cpu"))))
    compressor, _ = from_checkpoint(record.folder)
    for number, maps in enumerate(found.pictures):
        x_1NC = images[3 * number][None]
        cells = x_1NC.view(1, 3, 2, 3, 2, -1).mean((2, 4)).permute(0, 3, 1, 2)
        up = torch.nn.functional.interpolate(cells, size=6, mode="bilinear", align_corners=False)
        expected = Distortion()
        expected.add(x_1NC, up.permute(0, 2, 3, 1).reshape(1, 36, -1))
        assert maps.pooled[9].shape == (6, 6)
        assert maps.pooled[9].mean() == pytest.approx(expected.results()[0].item(), rel=1e-4)
        raw_1NC = store.read("val", torch.tensor([3 * number])).float()
        expected = Distortion()
        expected.add(x_1NC, compressor.standardised(compressor.decompress(compressor(raw_1NC))))
        assert maps.best[9].mean() == pytest.approx(expected.results()[0].item(), rel=1e-3)
        assert (maps.others[record.trial_id] == maps.best[9]).all()


def test_a_map_that_cannot_be_made_is_named_and_stops_nothing(sweep, tmp_path):
    settings = load_sweep(sweep[0], []).base
    record = trial("gone", tmp_path)
    found = compute_error_maps(settings, store_of(settings, sweep[1]), {9: record})
    assert not found.pictures and "9 tokens" in found.absent[0] and "no such checkpoint" in found.absent[0]
    assert "not a complete token store" in compute_error_maps(settings, Path(tmp_path), {9: record}).absent[0]
