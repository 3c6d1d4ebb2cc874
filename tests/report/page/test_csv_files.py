"""The numbers of figures as files within the page."""

import csv
import io
import re
from html import unescape
from urllib.parse import unquote

import pytest
from selenium.webdriver.common.by import By

from tests.records import baselines, finalists, record
from tests.report.test_report import content
from toconv.report.front_data import panel_plot, tokens_plot
from toconv.report.page.csv_files import csv_link, of_plots
from toconv.report.page.page import page as written


def read(link):
    address = unescape(re.search(r'href="(data:text/csv;charset=utf-8,[^"]*)"', link)[1])
    return list(csv.DictReader(io.StringIO(unquote(address.partition(",")[2]))))


@pytest.mark.parametrize("text", ['a "quoted", b', "two\nlines", "<b>&amp;</b>", "100 % #1 ü", "https://host/x?y=1"])
def test_any_text_comes_back_as_it_was(text):
    link = csv_link("x", ["a", "b"], [[text, 0.1 + 0.2]])
    assert read(link) == [{"a": text, "b": repr(0.1 + 0.2)}] and not re.search(
        "[<>]", link.partition('href="')[2][:-7].split('"')[0]
    )


def test_a_figures_file_has_its_trials_baselines_and_means_in_full():
    trial = record("a", 16, 0.5)
    made = content([trial, *finalists("a", 0.25, 0.5), *baselines(16, pool=0.6)])
    (validation,) = [m for m in made.measured if m.name == "distortion"]
    found = read(of_plots(validation.file, [tokens_plot(made, validation)]))
    assert [(r["what"], r["name"], r["distortion"]) for r in found[:2]] == [
        ("trial", "k/a", "0.5"),
        ("baseline", "pool", "0.6"),
    ]
    assert found[2]["distortion"] == "0.375" and float(found[2]["distortion_half_interval"]) > 0
    across = made.against_distortion[0]
    (first, *_) = read(of_plots(across.panels_file, [panel_plot(made, across, 16)], across.across))
    assert (first["distortion"], first[across.name]) == ("0.5", "0.1")


def test_the_file_shows_no_password(tmp_path):
    from toconv.report.write import text_of

    made = content(
        [record(f"{i}", 16, 0.5 + i, params={"data.root": "https://me:secret@host/x", "n": i}) for i in (1, 2)]
    )
    assert "secret" not in text_of(made) and "csv" in text_of(made)


def test_each_figure_has_a_link_to_its_numbers(page):
    lacking = page.execute_script("""
        return [...document.querySelectorAll("svg.plot, .maps img")].filter(
          (plot) => !plot.closest(".plots, figure, .maps").querySelector("a.csv[download]")
            && !plot.closest(".maps, .plots")?.querySelector("a.csv[download]")).length""")
    names = page.execute_script("return [...document.querySelectorAll('a.csv')].map((a) => a.download)")
    assert lacking == 0 and {"front_distortion.csv", "curves.csv", "error_maps_1.csv", "slices_distortion.csv"} <= set(
        names
    )


def test_a_click_saves_the_file(page, results, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    link = page.find_element(By.CSS_SELECTOR, "#front .view.on a.csv")
    page.execute_script("arguments[0].click()", link)
    from tests.running import until

    until((tmp_path / "front_distortion.csv").exists)
    with (tmp_path / "front_distortion.csv").open() as file:
        found = {r["trial_id"]: float(r["distortion"]) for r in csv.DictReader(file) if r["what"] == "trial"}
    assert found == {t: float(r["distortion"]) for t, r in results.items() if r["kind"] == "trial"}


def test_the_page_still_needs_nothing_beside_it():
    text = written(content([record("a", 16, 0.5), record("b", 16, 0.6)]))
    assert set(re.findall(r'href="?(\w+:)', text)) == {"data:"}
