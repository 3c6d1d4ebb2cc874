"""Fronts, results.csv, report.html and its figures from records whose answers are known."""

import csv
import itertools
import random
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from toconv.paths import REPOSITORY
from toconv.sweep.configurations import MEASURES, best_at_each, compare, configurations
from toconv.sweep.figures import write_figures
from toconv.sweep.finalists import TESTED, Estimate, estimate, summarise
from toconv.sweep.page.choice import better_without
from toconv.sweep.page.content import Content
from toconv.sweep.page.fronts import learnt
from toconv.sweep.page.svg import Scale, around, spread
from toconv.sweep.page.trainings import next_steps
from toconv.sweep.page.write import page, write_report
from toconv.sweep.records import TrialRecord
from toconv.sweep.report import against, front, write_results
from toconv.sweep.spec import leading_comment, load_sweep

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


@cache
def sweep(*changes):
    return load_sweep(REPOSITORY / "sweeps" / "grid_sizes.yaml", list(changes))


def content(records, *changes, **facts):
    made = {"sweep": sweep(*changes), "records": records, "importances": {}, "facts": {},
            "command": "python run_sweep.py x", "fingerprint": "71787f"}
    return Content(**{**made, **facts})


class Reader(HTMLParser):
    """The tags of a page with their attributes, and that every element that opens is closed in its turn."""

    VOID = {"meta", "img", "br", "circle", "path", "polyline"}

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


def baselines(tokens, **values):
    """One baseline for each keyword, with this distortion."""
    return [record(f"{name}{tokens}", tokens, value, kind="baseline", name=name, params={}, folder=None)
            for name, value in values.items()]


def test_the_page_answers_in_the_order_of_its_questions():
    found = Reader(page(content([*many(0), *baselines(16, pool=0.6)])))
    assert [s["id"] for s in found.named("section")] == [
        "asked", "front", "take", "lost", "mattered", "trainings", "failed", "rows", "again"]
    assert not found.wrong and not found.open


def test_the_page_needs_no_network_and_forbids_it():
    text = page(content(many(0)))
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|url\([\"']?https?:|@import|<link|fetch\(|<iframe", text)
    assert "Content-Security-Policy" in text and "default-src 'none'" in text


def test_the_page_escapes_what_it_shows():
    failed = record("f", 16, 0, state="failed", values={}, reason="<script>alert(1)</script>", name='"><b>')
    text = page(content([*many(0), failed], command="python 'a & b'", debug={"f": "x <y>"}))
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text and "a &amp; b" in text and '"><b>' not in text
    assert not Reader(text).wrong


def test_the_page_passes_no_password_on(tmp_path):
    address = "https://me:secret@host/x"
    made = content(many(0), f"experiment.tracking_uri={address}", command=f"python run_sweep.py x y={address}")
    write_report(tmp_path / "report.html", made)
    text = (tmp_path / "report.html").read_text()
    assert "secret" not in text and "me:***@host" in text


def test_the_question_is_the_comment_that_the_sweep_file_begins_with():
    assert leading_comment("# Is it\n#  so?\nname: x  # no\n# later\n") == "Is it so?"
    assert leading_comment("name: x\n# late\n") == ""
    assert "Which grid size is worth its tokens?" in page(content([]))


def test_every_record_is_a_row_of_the_page_with_its_values_in_full():
    records = many(1)
    rows = re.findall(r"<tr class=\w+ data-trial=.*?</tr>", page(content(records)))
    shown = [(re.search(r't\d+', row)[0], float(re.search(r'data-name="distortion" data-value="([^"]+)"', row)[1]))
             for row in rows]
    assert shown == [(r.trial_id, r.values["distortion"]) for r in records]


def test_a_sweep_without_one_result_has_a_page_and_no_figures(tmp_path):
    made = content([record("f", 16, 0, state="failed", values={}, reason="out of memory")], debug={"f": "x --debug"})
    text = page(made)
    assert "out of memory" in text and "x --debug" in text and "No trial is complete" in text
    assert write_figures(tmp_path / "figures", made) == []


def test_what_was_pruned_stands_with_the_epoch_that_it_reached():
    pruned = record("p", 16, 0.5, state="pruned")
    text = page(content([record("a", 16, 0.4), pruned], epochs={"p": [{"epoch": 1, "metrics": {}}] * 3}))
    assert "Pruned: 1" in text and "3 of 8" in text


def test_what_to_do_next_names_failed_and_unfinished_trials():
    states = list(itertools.product(("failed", "running"), range(2)))
    records = [record(f"{s}{i}", 16, 0, state=s, values={}) for s, i in states]
    steps = "\n".join(next_steps(records))
    assert "2 trial(s) failed (k/failed0, k/failed1)" in steps and "2 trial(s) running" in steps


def test_a_confidence_interval_is_students():
    found = estimate([1.0, 2.0, 4.5])
    deviation = (((1.5**2) + 0.5**2 + 2**2) / 2) ** 0.5
    assert found.mean == 2.5 and found.half_width == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-6)
    assert estimate([0.3]).half_width is None and str(estimate([0.3])) == "0.3000"


def finalists(of, *values, **more):
    tested = {name: 0.25 for name in TESTED}
    return [record(f"{of}-{i}", 16, value, kind="finalist", finalist_of=of,
                   values={**record("x", 16, value).values, **tested, "test_distortion": value, **more})
            for i, value in enumerate(values)]


def test_finalists_stand_with_their_trial_and_beside_the_baselines_of_the_test_pictures():
    trial = record("a", 16, 0.5)
    lost = record("s2", 16, 0.5, kind="finalist", finalist_of="a", state="failed", values={})
    tested = {name: 0.25 for name in TESTED}
    pool = record("p", 16, 0.6, kind="baseline", name="pool", values={**record("x", 16, 0.6).values, **tested})
    records = [trial, *finalists("a", 0.2, 0.4), lost, pool]
    (found,) = summarise(records)
    assert found.trial is trial and found.seeds == 2
    assert found.metrics["test_distortion"].mean == pytest.approx(0.3)
    text = page(content(records))
    assert f'data-name="test_distortion" data-value="{found.metrics["test_distortion"].mean!r}" data-half=' in text
    assert "2 fresh seeds" in text and "hidden, closer" in text


def test_a_trial_that_was_trained_again_is_judged_by_its_fresh_seeds_alone():
    (found,) = configurations([record("a", 16, 0.1), *finalists("a", 0.3, 0.5)])
    assert found.estimate("distortion").mean == pytest.approx(0.4) and found.evidence == "2 fresh seeds"


def test_trials_that_differ_in_their_seed_alone_are_one_configuration():
    runs = [record(f"{w}{s}", 16, d, params={"loss.wgan_weight": w, "training.seed": s})
            for w, s, d in ((0.0, 0, 0.2), (0.0, 1, 0.4), (0.5, 0, 0.7))]
    many_seeds, alone = configurations(runs)
    assert many_seeds.estimate("distortion").mean == pytest.approx(0.3) and many_seeds.evidence == "2 seeds"
    assert many_seeds.name == "wgan_weight=0" and alone.evidence == "one training"
    assert alone.estimate("distortion") == Estimate(0.7, None)


def test_the_best_is_sought_among_what_has_several_seeds_where_there_is_such():
    lucky = record("lucky", 16, 0.1, params={"loss.lambda_gp": 9.0})
    found = configurations([lucky, record("a", 16, 0.2), *finalists("a", 0.3, 0.5)])
    assert best_at_each(found, "distortion", MEASURES[0])[16].trials[0].trial_id == "a"
    assert best_at_each(configurations([lucky, record("a", 16, 0.2)]), "distortion", MEASURES[0])[16].trials == (lucky,)


@pytest.mark.parametrize("mean, half, lower, verdict", [
    (0.5, 0.1, True, "not separable"), (0.5, 0.05, True, "better"), (0.7, 0.05, True, "worse"),
    (0.7, 0.05, False, "better"), (0.5, None, True, "better"), (0.6, None, False, "not separable")])
def test_a_verdict_needs_an_interval_that_excludes_the_baseline(mean, half, lower, verdict):
    measure = next(m for m in MEASURES if m.lower == lower)
    assert compare(Estimate(mean, half), 0.59 if half else 0.6, measure) == verdict


def test_a_baseline_that_is_better_is_called_so():
    made = content([record("a", 16, 0.5, kept=True), *baselines(16, pool=0.6, pca=0.4, strided=0.9)])
    (_, measure, rival, value), *_ = better_without([("", MEASURES[0], Estimate(0.5, None))], {
        r.name: r for r in made.baselines})
    assert (measure.name, rival, value) == ("distortion", "pca", 0.4)
    assert "16.7 % below average pooling (0.6000); 25.0 % above per-block PCA" in learnt(made)[0]
    text = page(made)
    assert "Better without any training" in text and "distortion (validation): per-block PCA, 0.4 against 0.5" in text


def test_the_recommended_compressor_stands_with_its_command_if_it_was_kept():
    kept, gone = record("a", 36, 0.2, kept=True), record("b", 16, 0.5)
    text = page(content([kept, record("c", 36, 0.3), gone]))
    assert "python -m toconv.compress PICTURE --checkpoint outputs/grid_sizes/front/k6" in text
    assert "front/k4</code></pre>" not in text and "was not kept" in text


def test_figures_for_a_paper_are_sharp_enough_to_print(tmp_path):
    made = content([*many(3), *baselines(16, pool=0.6, strided=0.9), *baselines(36, pool=0.5, strided=0.8)])
    written = write_figures(tmp_path, made)
    assert {p.name for p in written} == {p.name for p in tmp_path.iterdir()} == {
        f"{name}.{kind}" for kind in ("png", "pdf")
        for name in ("front_distortion", "front_perception", "front_cosine", "distortion_perception")}
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as image:
            assert min(image.info["dpi"]) >= 200 and image.width > 1200


@pytest.mark.parametrize("low, high, log", [(0.123, 0.987, False), (-3.0, 41.0, False), (0.001, 900.0, True),
                                            (2.0, 3.0, True), (1e-6, 2e-6, False)])
def test_ticks_are_round_numbers_that_lie_where_their_values_do(low, high, log):
    scale = Scale(low, high, 10.0, 110.0, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    for position, label in ticks:
        assert scale(float(label)) == pytest.approx(position, abs=0.01) and 10 - 1e-6 <= position <= 110 + 1e-6
        assert float(label) == float(f"{float(label):.2g}")


def test_a_scale_holds_equal_values_too():
    scale = around([0.5, 0.5], 0, 100)
    assert scale(0.5) == pytest.approx(50)
    assert around([0.0], 0, 100)(0.0) == pytest.approx(50)


def test_labels_are_moved_apart_as_little_as_can_be():
    assert spread([0, 30, 60], 10) == [0, 30, 60]
    assert spread([10, 10, 10], 10) == pytest.approx([0, 10, 20])
    draw = random.Random(0)
    values = sorted(draw.uniform(0, 50) for _ in range(6))
    places = spread(values, 9)
    cost = sum((p - v) ** 2 for p, v in zip(places, values, strict=True))
    assert all(b - a >= 9 - 1e-9 for a, b in itertools.pairwise(places))
    for _ in range(300):  # no other admissible places are nearer
        other = [p + draw.gauss(0, 2) for p in places]
        if all(b - a >= 9 for a, b in itertools.pairwise(other)):
            assert sum((p - v) ** 2 for p, v in zip(other, values, strict=True)) >= cost - 1e-9
