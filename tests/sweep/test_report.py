"""Fronts, results.csv and report.html from records whose answers are known."""

import csv
import itertools
import random
import re
from pathlib import Path

import pytest

from toconv.sweep.finalists import TESTED, estimate, summarise
from toconv.sweep.page import next_steps, write_report
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import against, front, write_results

OBJECTIVES = {"distortion": "minimize", "cosine": "maximize"}


def record(trial_id, tokens, distortion, cosine=0.5, **changes):
    facts = {
        "trial_id": trial_id, "name": f"k/{trial_id}", "kind": "trial", "state": "complete", "cell": "k",
        "tokens": tokens, "params": {"loss.lambda_gp": 1.5}, "device_seconds": 2.0,
        "folder": Path("trials") / trial_id, "reason": None,
        "values": {"distortion": distortion, "perception": 0.1, "cosine": cosine}}
    return TrialRecord(**{**facts, **changes})


def many(seed):
    draw = random.Random(seed)
    return [record(f"t{i}", draw.choice([16, 36]), draw.randrange(6) / 10, draw.randrange(6) / 10) for i in range(40)]


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_what_a_nested_loop_finds(seed):
    records = many(seed)
    expected = set()
    for a in records:
        beaten = False
        for b in records:
            x, y = (a.tokens, a.values["distortion"], -a.values["cosine"]), (
                b.tokens, b.values["distortion"], -b.values["cosine"])
            beaten |= all(v <= u for u, v in zip(x, y, strict=True)) and x != y
        if not beaten:
            expected.add(a.trial_id)
    assert {r.trial_id for r in front(records, OBJECTIVES)} == expected


def test_only_complete_trials_stand_on_the_front():
    best = record("good", 16, 0.5)
    others = [record("pruned", 16, 0.1, state="pruned"), record("pca", 16, 0.1, kind="baseline"),
              *(record(state, 16, 0.1, state=state, values={}) for state in ("running", "failed"))]
    assert front([best, *others], OBJECTIVES) == [best]


def test_results_have_the_columns_of_the_contract_and_every_value_in_full(tmp_path):
    records = [record("a", 16, 1 / 3), record("b", 16, 0.2, kind="baseline", params={}, device_seconds=None)]
    write_results(tmp_path / "results.csv", records, {"a": "run"}, ["loss.lambda_gp"])
    with (tmp_path / "results.csv").open() as file:
        first, second = csv.DictReader(file)
    assert list(first) == ["trial_id", "name", "kind", "state", "cell", "tokens", "loss.lambda_gp", "distortion",
                           "distortion_ridge", "perception", "use", "cosine", "device_seconds", "mlflow_run_id"]
    assert float(first["distortion"]) == 1 / 3 and first["mlflow_run_id"] == "run"
    assert second["device_seconds"] == "" and second["loss.lambda_gp"] == ""


def test_a_trial_above_the_baseline_is_called_what_it_is():
    pool = record("pool", 16, 0.4, kind="baseline", name="pool")
    assert "NOT below average pooling (0.4000)" in against([record("a", 16, 0.5), pool], "pool")[0]
    assert "50.0 % below average pooling" in against([record("a", 16, 0.2), pool], "pool")[0]


def page(tmp_path, records):
    write_report(tmp_path / "report.html", "a <sweep>", ["x & y"], records, OBJECTIVES, {"k": {"loss.lambda_gp": 1.0}})
    return (tmp_path / "report.html").read_text()


def test_the_page_needs_no_network_and_escapes_what_it_shows(tmp_path):
    failed = record("f", 16, 0, state="failed", values={}, reason="<script>alert(1)</script>")
    pools = [record(f"pool{n}", n, 0.6, kind="baseline", name="pool") for n in (16, 36)]
    text = page(tmp_path, [*many(0), failed, *pools])
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|url\([\"']?https?:|@import|<link|fetch\(|<iframe", text)
    assert "<script>alert" not in text and "a &lt;sweep&gt;" in text and "x &amp; y" in text
    assert text.count("<svg") == 2


def test_every_record_is_a_row_of_the_page_with_its_value_in_full(tmp_path):
    records = many(1)
    rows = re.findall(r"<tr class=\w+>.*?</tr>", page(tmp_path, records))
    shown = [(re.search(r"t\d+", row)[0], float(re.search(r"data-value='([^']+)'", row)[1])) for row in rows]
    assert shown == [(r.trial_id, r.values["distortion"]) for r in records]


def test_a_sweep_without_one_result_has_a_page_too(tmp_path):
    assert "failed" in page(tmp_path, [record("f", 16, 0, state="failed", values={}, reason="out of memory")])


def test_what_to_do_next_names_failed_and_unfinished_trials():
    states = list(itertools.product(("failed", "running"), range(2)))
    records = [record(f"{s}{i}", 16, 0, state=s, values={}) for s, i in states]
    steps = "\n".join(next_steps(records, []))
    assert "2 trial(s) failed (k/failed0, k/failed1)" in steps and "2 trial(s) running" in steps


def test_a_confidence_interval_is_students():
    found = estimate([1.0, 2.0, 4.5])
    deviation = (((1.5**2) + 0.5**2 + 2**2) / 2) ** 0.5
    assert found.mean == 2.5 and found.half_width == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-6)
    assert estimate([0.3]).half_width is None and str(estimate([0.3])) == "0.3000"


def test_finalists_stand_with_their_trial_and_beside_the_baselines_of_the_test_pictures(tmp_path):
    tested = {name: 0.25 for name in TESTED}
    trial = record("a", 16, 0.5)
    seeds = [record(f"s{i}", 16, 0.5, kind="finalist", finalist_of="a", values={**tested, "test_distortion": value})
             for i, value in enumerate((0.2, 0.4))]
    lost = record("s2", 16, 0.5, kind="finalist", finalist_of="a", state="failed", values={})
    pool = record("p", 16, 0.6, kind="baseline", name="pool", values={**record("x", 16, 0.6).values, **tested})
    (found,) = summarise([trial, *seeds, lost, pool])
    assert found.trial is trial and found.seeds == 2
    assert found.metrics["test_distortion"].mean == pytest.approx(0.3)
    text = page(tmp_path, [trial, *seeds, lost, pool])
    assert str(found.metrics["test_distortion"]) in text and "The front on the test pictures" in text
