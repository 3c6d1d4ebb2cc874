"""`mlflow ui` and `optuna-dashboard` on a finished sweep, as their users open them."""

import json
import os
import shutil
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    StaleElementReferenceException,
)
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import browser
from tests.running import mlflow_runs, optuna_trials, rows, serving

pytestmark = pytest.mark.slow

SECONDS = 90  # that a page may take on a busy machine
MOVING = (StaleElementReferenceException, ElementClickInterceptedException, ElementNotInteractableException)


@pytest.fixture(scope="module")
def mlflow_ui(recorded):
    """`mlflow ui` without arguments (beside the port), where mlflow.db lies."""
    with serving(recorded.folder, "/health", sys.executable, "-m", "mlflow", "ui", "--workers", "1") as address:
        yield address


@pytest.fixture(scope="module")
def page(mlflow_ui):
    """A page for which "Model training" was chosen, as MLflow then remembers it."""
    with browser(1600, 1200) as driver:
        driver.get(mlflow_ui)
        driver.execute_script("localStorage.setItem('mlflow.workflowType_v1', '\"machine_learning\"')")
        yield driver


def text_of(driver, address, *parts):
    """The page's text once all the parts are in it."""
    driver.get("about:blank")
    driver.get(address)

    def there(_):
        text = driver.find_element(By.TAG_NAME, "body").text
        return text if all(part in text for part in parts) else False

    return waits(driver).until(there, f"{address}: not all of {parts}")


def waits(driver):
    """Also for elements that a page draws anew or moves while it is built."""
    return WebDriverWait(driver, SECONDS, ignored_exceptions=MOVING)


def click(driver, by, what):
    """The first one, once it is there."""

    def clicked(_):
        found = driver.find_elements(by, what)
        if found:
            found[0].click()
        return bool(found)

    waits(driver).until(clicked, what)


def experiment(recorded):
    client, runs = mlflow_runs(recorded.uri)
    parent = next(r for r in runs if r.data.tags.get("toconv.kind") == "sweep")
    return f"/#/experiments/{parent.info.experiment_id}", parent.info.run_id, runs


def test_the_experiments_page_lists_the_sweep(recorded, mlflow_ui, page):
    assert text_of(page, f"{mlflow_ui}/#/experiments", "tiny", "Default")


def test_the_sweep_is_one_row_that_opens_to_its_trials(recorded, mlflow_ui, page):
    base, _, runs = experiment(recorded)
    text = text_of(page, f"{mlflow_ui}{base}/runs", "tiny", f"{len(runs)} matching runs")
    children = [r.info.run_name for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert not any(name in text for name in children)
    opener = ".ag-row button[data-component-id*=runnamecellrenderer]"
    click(page, By.CSS_SELECTOR, opener)
    trials = [r.info.run_name for r in runs if r.data.tags.get("kind") in {"trial", "finalist"}]
    waits(page).until(lambda d: all(name in d.find_element(By.TAG_NAME, "body").text for name in trials))


def test_the_parent_shows_its_children_its_commit_and_what_to_take(recorded, mlflow_ui, page):
    base, parent, runs = experiment(recorded)
    newest = next(r for r in runs if r.data.tags.get("kind") == "finalist")
    text = text_of(page, f"{mlflow_ui}{base}/runs/{parent}", "Child runs", newest.info.run_name, "lowest distortion")
    assert "run_sweep.py" in text and "tokens-train" in text and "toconv compress IMAGE --checkpoint" in text
    commit = newest.data.tags.get("mlflow.source.git.commit", "")
    assert commit[:7] in text
    best = [
        min(
            (r for r in rows(recorded.folder) if r["kind"] == "trial" and r["tokens"] == tokens),
            key=lambda r: float(r["distortion"]),
        )
        for tokens in ("4", "9")
    ]
    taken = [part for row in best for part in (row["trial_id"], f"{float(row['distortion']):.4f}")]

    def shown(_):
        for more in page.find_elements(By.XPATH, "//*[text()='Show more']"):
            more.click()  # a description that is higher than MLflow shows at once, as it finds once it is laid out
        text = page.find_element(By.TAG_NAME, "body").text
        return all(part in text for part in taken)

    waits(page).until(shown, f"not all of {taken}")


def test_the_parents_report_opens_in_the_page(recorded, mlflow_ui, page):
    base, parent, _ = experiment(recorded)
    text_of(page, f"{mlflow_ui}{base}/runs/{parent}/artifacts", "report.html", "results.csv", "sweep.yaml")
    click(page, By.XPATH, "//*[text()='report.html']")
    wait = waits(page)
    wait.until(expected_conditions.frame_to_be_available_and_switch_to_it((By.TAG_NAME, "iframe")))
    try:
        assert wait.until(lambda d: d.find_elements(By.TAG_NAME, "h1"))[0].text == "tiny"
    finally:
        page.switch_to.default_content()


def test_a_trial_has_a_chart_of_each_metric(recorded, mlflow_ui, page):
    base, _, runs = experiment(recorded)
    trial = next(r for r in runs if r.data.tags.get("kind") == "trial")
    text_of(page, f"{mlflow_ui}{base}/runs/{trial.info.run_id}/model-metrics", "Model metrics", "L_ae_mse")

    def points(_):
        return page.execute_script(
            "return [...document.querySelectorAll('.js-plotly-plot')].map(p => (p.data || []).map(t => [...t.x]))"
        )

    def drawn(driver):
        return [x for chart in points(driver) for x in chart if len(x) == 3]

    waits(page).until(drawn)
    assert all(x == [1, 2, 3] for x in drawn(page))


def test_the_models_page_has_the_kept_checkpoints(recorded, mlflow_ui, page):
    base, _, _ = experiment(recorded)
    kept = [p.parent.name for p in recorded.root.glob("trials/*/latest.pt")]
    assert kept
    text = text_of(page, f"{mlflow_ui}{base}/models", *kept)
    assert "Ready" in text and "Models" in text


def test_optuna_dashboard_reads_the_ledger(recorded):
    program = shutil.which("optuna-dashboard", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "optuna-dashboard is one of requirements-extras.txt"
    with serving(recorded.root, "/dashboard/", program, "sqlite:///study.db", "--host", "127.0.0.1") as address:
        found = {s["study_name"]: s for s in json.load(urlopen(f"{address}/api/studies"))["study_summaries"]}
        assert set(found) == {"tiny/k=2", "tiny/k=3", "tiny/finalists"}
        values = []
        for study in found.values():
            detail = json.load(urlopen(f"{address}/api/studies/{study['study_id']}?after=0"))
            values += [trial["values"] for trial in detail["trials"]]
    expected = [t.values for t in optuna_trials(recorded.folder)]
    assert sorted([float(v) for v in trial] for trial in values) == sorted(expected)
