"""The figure of the hypervolume's course."""

from tests.records import record
from tests.report.test_report import Reader, content
from toconv.report.page.hypervolume import hypervolume
from toconv.report.page.page import page
from toconv.sweep.stopping import Course

ASKED = "stop_when={hypervolume_gain_below: 0.5 %, over_trials: 2}"
COURSES = {"k=4": Course(2, {"distortion": 0.9, "perception": 1.25}, (1.0, 1.5, 1.5, 1.501))}


def test_it_says_the_reference_point_the_gain_and_whether_that_is_enough():
    html = hypervolume(content([], ASKED, courses=COURSES))
    assert "k=4: the last 2 added 0.07%; it has enough. Reference point: distortion 0.9, perception 1.25" in html
    assert "less than 0.5 % of it" in html and "10% of their range beyond" in html
    (drawn,) = Reader(html).named("polyline")
    assert len(drawn["points"].split()) == 4


def test_without_stop_when_there_is_none_and_with_it_the_page_has_it():
    assert hypervolume(content([], courses=COURSES)) == ""
    found = Reader(page(content([record("a", 16, 0.2)], ASKED, courses=COURSES)))
    assert found.wrong == [] and any(
        "hypervolume" in (a.get("aria-label") or "") or "Reference" in (a.get("aria-label") or "")
        for a in found.named("svg")
    )


def test_before_any_cell_has_that_many_it_says_so():
    assert "No cell has that many yet" in hypervolume(content([], ASKED))
