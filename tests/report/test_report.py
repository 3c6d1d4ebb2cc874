"""report.html from records whose answers are known."""

import itertools
import re
from functools import cache
from html.parser import HTMLParser

import pytest

from tests.records import baselines, finalists, many, record
from tests.repository import REPOSITORY
from toconv.analysis.records import Kind, State
from toconv.analysis.seeds import TESTED, Estimate, summarise
from toconv.evaluation.metrics import METRICS, VALIDATION, Metric, Place
from toconv.report.content import Content, Unfinished
from toconv.report.figures import write_figures
from toconv.report.front_data import Measured, Results
from toconv.report.page.fronts import learnt
from toconv.report.page.page import page
from toconv.report.page.recommended import better_without
from toconv.report.page.trainings import next_steps
from toconv.report.write import write_page
from toconv.sweep.file import leading_comment, load_sweep
from toconv.training.epochs import Epoch


@cache
def sweep(*changes):
    return load_sweep(REPOSITORY / "sweeps" / "grid_sizes.yaml", list(changes))


def content(records, *changes, command="python run_sweep.py x", **more):
    made = {
        "sweep": sweep(*changes),
        "records": records,
        "importances": {},
        "facts": {"command": command},
        "fingerprint": "71787f",
    }
    return Content(**{**made, **more})


class Reader(HTMLParser):
    """The tags of a page with their attributes, and that every element that opens is closed in its turn."""

    VOID = frozenset({"meta", "img", "br", "circle", "path", "polyline"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.wrong = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_answers_in_the_order_of_its_questions():
    found = Reader(page(content([*many(0), *baselines(16, pool=0.6)])))
    assert [s["id"] for s in found.named("section")] == [
        "what-to-take",
        "overview",
        "front",
        "recommended",
        "error-maps",
        "importance",
        "trainings",
        "failed",
        "side-by-side",
        "rows",
        "reproduce",
    ]
    assert not found.wrong and not found.open


def test_the_page_needs_no_network_and_forbids_it():
    text = page(content(many(0)))
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|url\([\"']?https?:|@import|<link|fetch\(|<iframe", text)
    assert "Content-Security-Policy" in text and "default-src 'none'" in text


def test_the_page_escapes_what_it_shows():
    failed = record("f", 16, 0, state=State.FAILED, values={}, reason="<script>alert(1)</script>", name='"><b>')
    text = page(content([*many(0), failed], command="python 'a & b <y>'"))
    assert (
        "<script>alert" not in text
        and "&lt;script&gt;alert" in text
        and "a &amp; b &lt;y&gt;" in text
        and '"><b>' not in text
    )
    assert not Reader(text).wrong


def test_the_page_passes_no_password_on(tmp_path):
    address = "https://me:secret@host/x"
    made = content(many(0), command=f"python run_sweep.py x y={address}")
    write_page(tmp_path / "report.html", made)
    text = (tmp_path / "report.html").read_text()
    assert "secret" not in text and "***@host" in text


def test_a_sweep_that_is_not_at_its_end_is_called_so_at_the_top_with_the_time_until_which_it_is_known():
    text = page(content(many(0), unfinished=Unfinished(3, 8, 1_800_000_000.0)))
    top = text.partition("<main>")[0]
    assert "Unfinished.</strong> 3 of 8 trials have not ended" in top and "known at 2027-01-15 08:00:00 UTC" in top
    assert "Unfinished" not in page(content(many(0)))


def test_the_question_is_the_comment_that_the_sweep_file_begins_with():
    assert leading_comment("# Is it\n#  so?\nname: x  # no\n# later\n") == "Is it so?"
    assert leading_comment("name: x\n# late\n") == ""
    assert "Which grid size is worth its tokens?" in page(content([]))


def test_every_record_is_a_row_of_the_page_with_its_values_in_full():
    records = many(1)
    rows = re.findall(r"<tr class=\w+ data-trial=.*?</tr>", page(content(records)))
    shown = [
        (re.search(r"t\d+", row)[0], float(re.search(r'data-name="distortion" data-value="([^"]+)"', row)[1]))
        for row in rows
    ]
    assert shown == [(r.trial_id, r.values["distortion"]) for r in records]


def test_a_sweep_without_one_result_has_a_page_and_no_figures(tmp_path):
    made = content([record("f", 16, 0, state=State.FAILED, values={}, reason="out of memory")], command="x")
    text = page(made)
    assert "out of memory" in text and "x --debug" in text and "No trial is complete" in text
    assert write_figures(tmp_path / "figures", made, made.error_maps) == []


def test_what_was_pruned_stands_with_the_epoch_that_it_reached():
    pruned = record("p", 16, 0.5, state=State.PRUNED)
    text = page(content([record("a", 16, 0.4), pruned], epochs={"p": [Epoch(1, 0, 0.0, {})] * 3}))
    assert "Pruned: 1" in text and f"3 of {sweep().base.training.epochs}" in text


def test_what_to_do_next_names_failed_and_unfinished_trials():
    states = list(itertools.product((State.FAILED, State.RUNNING), range(2)))
    records = [record(f"{s}{i}", 16, 0, state=s, values={}) for s, i in states]
    steps = "\n".join(next_steps(Results(records)))
    assert "2 trial(s) failed (k/failed0, k/failed1)" in steps and "2 trial(s) running" in steps


def test_finalists_stand_with_their_trial_and_beside_the_baselines_of_the_test_pictures():
    trial = record("a", 16, 0.5)
    failed = record("s2", 16, 0.5, kind=Kind.FINALIST, finalist_of="a", state=State.FAILED, values={})
    tested = dict.fromkeys(TESTED, 0.25)
    pool = record("p", 16, 0.6, kind=Kind.BASELINE, name="pool", values={**record("x", 16, 0.6).values, **tested})
    records = [trial, *finalists("a", 0.2, 0.4), failed, pool]
    (found,) = summarise(records)
    assert found.trial is trial and found.seeds == 2
    assert found.metrics["test_distortion"].mean == pytest.approx(0.3)
    text = page(content(records))
    assert f'data-name="test_distortion" data-value="{found.metrics["test_distortion"].mean!r}" data-half=' in text
    assert "2 fresh seeds" in text and "hidden, closer" in text


def test_a_baseline_that_is_better_is_called_so():
    made = content([record("a", 16, 0.5, kept=True), *baselines(16, pool=0.6, linear=0.4, strided=0.9)])
    found = [(Measured(VALIDATION, METRICS["distortion"]), Estimate(0.5, None))]
    (measured, _, rival, value), *_ = better_without(found, {r.name: r for r in made.baselines})
    assert (measured.name, rival, value) == ("distortion", "linear", 0.4)
    assert "16.7 % below average pooling (0.6000); 25.0 % above the linear code" in learnt(made)[0]
    text = page(made)
    assert "Better without any training" in text and "distortion (validation): the linear code, 0.4 against 0.5" in text


def test_the_recommended_compressor_stands_with_its_command_if_it_was_kept():
    kept, gone = record("a", 36, 0.2, kept=True), record("b", 16, 0.5)
    text = page(content([kept, record("c", 36, 0.3), gone]))
    assert "toconv compress PICTURE --checkpoint outputs/grid_sizes/recommended/k6" in text
    assert "recommended/k4</code></pre>" not in text and "was not kept" in text


def test_a_metric_that_is_added_to_the_registry_is_shown(monkeypatch):
    new = Metric("new_metric", "a new title", "dB", False, "a formula", frozenset({Place.FIGURE, Place.PANEL}))
    monkeypatch.setitem(METRICS, "new_metric", new)
    records = [
        record(f"t{i}", 16, 0.5, values={"distortion": 0.5, "perception": 0.1, "new_metric": 0.3 + i}) for i in range(2)
    ]
    made = content(records)
    text = page(made)
    assert "a new title (dB), validation pictures; higher is better" in text
    assert "Distortion against perception and a new title" in text and "above it for a new title" in text
    assert [m.name for m in made.measured] == ["distortion", "perception", "new_metric"]


def test_skipped_pictures_are_counted_and_named():
    skipped = {f"<{number}>.png": "the file is empty" for number in range(5)}
    found = page(content([*many(0), *baselines(16, pool=0.6)], skipped=skipped))
    assert "5 picture(s) that cannot be read: &lt;0&gt;.png: the file is empty, " in found and "and 2 more" in found
    assert "cannot be read" not in page(content([*many(0), *baselines(16, pool=0.6)]))


OWN = ("evaluation.function='a:b'", "evaluation.metric=[accuracy,slow]", "evaluation.on=trials")


def own(trial_id, tokens, accuracy, **changes):
    values = {"distortion": 1 / tokens, "perception": 0.1, "accuracy": accuracy, "slow": 2.0}
    params = {"loss.lambda_gp": float(accuracy)}
    return record(trial_id, tokens, 0, values=values, own=("accuracy", "slow"), params=params, **changes)


def test_the_users_own_measure_is_drawn_against_tokens_and_marked_as_theirs(tmp_path):
    records = [own("a", 16, 0.5), own("b", 16, 0.7), own("c", 36, 0.9), *baselines(16, pool=0.6)]
    made = content(records, *OWN)
    text = page(made)
    part = text.partition("Tokens against your own measure")[2].partition("</section>")[0]
    assert "accuracy (your own measure); higher is better. Best trained: 0.7" in part and "slow (your own" in part
    assert not Reader(text).wrong and "a:b gives accuracy, slow of trials and finalists; baselines" in text
    assert 'data-name="accuracy" data-value="0.5"' in text
    written = {path.name for path in write_figures(tmp_path, made, made.error_maps)}
    assert {"front_accuracy.png", "front_accuracy.pdf", "front_slow.pdf"} <= written
    assert "your own measure" not in page(content(records))


def test_an_objective_says_in_which_direction_the_users_own_measure_is_better():
    made = content([own("a", 16, 0.5), own("b", 16, 0.7)], *OWN, "objectives={slow: maximize, accuracy: minimize}")
    assert [(m.name, m.lower_is_better) for m in made.own] == [("accuracy", True), ("slow", False)]
    assert "accuracy (your own measure); lower is better. Best trained: 0.5" in page(made)


def test_an_evaluation_that_failed_stands_with_its_reason_and_its_output():
    failed = record("f", 16, 0.5, not_evaluated="ended with exit code 1: no <model>")
    text = page(content([failed], *OWN))
    assert "Evaluations that failed: 1" in text and "no &lt;model&gt;" in text and "trials/f/evaluation.log" in text
    assert "your own measure" not in text.partition("id=front")[2], "nothing has it"


def test_the_rows_say_what_gives_no_grid_and_what_saves_the_encoder():
    pool, tome, smaller = baselines(16, pool=0.6, tome=0.3, smaller_picture=0.9)
    for r in (pool, smaller):
        r.values["distortion_ridge"] = 0.5
    smaller.values["encoder_share"] = 16 / 576
    notes = [("no grid", tome), ("saves the encoder too", smaller)]
    assert not any(note in page(content([pool])) for note, _ in notes)
    assert all(note in page(content([pool, r])) for note, r in notes)


def test_trials_for_more_epochs_stand_beside_those_that_they_extend_and_on_no_front():
    how = "5 epochs: from the end of a, epoch 3, with the schedule begun anew"
    longer = record("x", 16, 0.1, kind=Kind.EXTENDED, name="extended/0", extends="a", extension=how)
    made = content([record("a", 16, 0.2), longer])
    html = page(made)
    assert how in html and "it is not what so many epochs from the start give" in html
    assert made.front == {"a"} and made.recommended[16].trial_id == "a" and Reader(html).wrong == []
