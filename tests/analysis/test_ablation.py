"""Whether the critic helps: differences over seeds against a reference, on results with known answers."""

import pytest
from scipy import stats

from toconv.analysis.ablation import CURVE, agreement_at, comparisons, markdown, mixing_curve, verdict
from toconv.analysis.records import TrialRecord
from toconv.analysis.results import read_results, write_results
from toconv.analysis.seeds import Estimate
from toconv.commands.ablation import main
from toconv.errors import RequestError
from toconv.report.figures import ablation_figure

SETTINGS = ("loss.wgan_weight", "training.seed")


def record(name, values, weight=None, seed=None, state="complete"):
    kind = "baseline" if weight is None else "trial"
    params = {} if weight is None else dict(zip(SETTINGS, (weight, seed), strict=True))
    whole = {"distortion_ridge": 0.5, "embedding_agreement": 0.8, "cosine": 0.7, **values}
    return TrialRecord(name, name, kind, state, "", 36, params, whole, 10.0, None, None)


@pytest.fixture
def records():
    baselines = [
        record(name, {"distortion": d, "perception": p})
        for name, d, p in zip(CURVE, (0.5, 0.45, 0.4, 0.36, 0.34), (0.01, 0.02, 0.04, 0.06, 0.08), strict=True)
    ]
    trials = [
        record(f"t{w}{s}", {"distortion": d, "perception": p, "embedding_agreement": u}, w, s)
        for w, s, d, p, u in (
            (0.0, 0, 0.30, 0.090, 0.80),
            (0.0, 1, 0.31, 0.091, 0.81),
            (0.0, 2, 0.29, 0.089, 0.82),
            (0.01, 0, 0.32, 0.030, 0.83),
            (0.01, 1, 0.33, 0.033, 0.84),
            (0.01, 2, 0.31, 0.030, 0.86),
        )
    ]
    codes = [record(name, {"distortion": d, "perception": 0.1}) for name, d in (("pca", 0.31), ("linear", 0.25))]
    return [*baselines, *codes, *trials]


def only(found, other, name):
    (one,) = (c for c in found if c.other == other and c.name.startswith(name))
    return one


def test_a_training_with_critic_is_paired_with_the_same_without_by_seed(records):
    pair = only(comparisons(records), "the same without critic", "critic")
    differences = [0.83 - 0.80, 0.84 - 0.81, 0.86 - 0.82]
    reference = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    use = pair.differences["embedding_agreement"]
    assert (use.mean - use.half_width, use.mean + use.half_width) == pytest.approx(tuple(reference), abs=1e-12)
    assert pair.differences["distortion"].mean == pytest.approx(0.02)
    assert pair.seeds == 3


def test_agreement_is_compared_at_equal_distortion_on_the_line_from_no_critic_to_strided_tokens(records):
    records[0] = record("strided", {"distortion": 0.5, "perception": 0.01, "embedding_agreement": 0.95})
    use = only(comparisons(records), "the same without critic, at equal distortion", "critic").differences[
        "embedding_agreement"
    ]
    moved = [0.80 + 0.02 / 0.20 * 0.15, 0.81 + 0.02 / 0.19 * 0.14, 0.82 + 0.02 / 0.21 * 0.13]
    assert use.mean == pytest.approx(sum(u - m for u, m in zip((0.83, 0.84, 0.86), moved, strict=True)) / 3)
    assert (
        agreement_at(0.2, {"distortion": 0.3, "embedding_agreement": 0.8}, (0.5, 0.95)) == 0.8
    )  # nothing to give for less distortion


def test_a_seed_that_one_side_lacks_does_not_count(records):
    records[-1] = record("t", {"distortion": 9.0, "perception": 9.0}, 0.01, 2, state="failed")
    pair = only(comparisons(records), "the same without critic", "critic")
    assert pair.seeds == 2
    assert pair.differences["distortion"].mean == pytest.approx(0.02)


def test_each_group_of_seeds_stands_against_the_linear_codes_and_the_mixing_curve(records):
    found = comparisons(records)
    assert only(found, "per-block PCA", "critic").differences["distortion"].mean == pytest.approx(0.01)
    assert only(found, "per-block PCA", "reconstruction").differences["distortion"].mean == pytest.approx(-0.01)
    assert only(found, "the linear code", "critic").differences["distortion"].mean == pytest.approx(0.07)
    # both lie below the curve's lowest distortion, where average pooling (0.08) stands for it
    assert only(found, "the mixing curve", "critic").differences["perception"].mean == pytest.approx(0.031 - 0.08)
    assert only(found, "the mixing curve", "reconstruction").differences["perception"].mean == pytest.approx(0.01)


@pytest.mark.parametrize(
    "distortion, expected", [(0.2, 0.08), (0.34, 0.08), (0.35, 0.07), (0.425, 0.03), (0.5, 0.01), (0.9, 0.01)]
)
def test_the_mixing_curve_is_linear_between_its_points_and_constant_beyond(distortion, expected):
    at = mixing_curve([(0.5, 0.01), (0.45, 0.02), (0.4, 0.04), (0.36, 0.06), (0.34, 0.08)])
    assert at(distortion) == pytest.approx(expected)


def test_without_a_training_without_critic_there_is_no_comparison(records):
    assert comparisons([r for r in records if r.params.get("loss.wgan_weight") != 0.0]) == []


@pytest.mark.parametrize("half, text", [(0.01, "**+0.0200 ± 0.0100**"), (0.03, "+0.0200 ± 0.0300"), (None, "+0.0200")])
def test_only_an_interval_that_excludes_zero_is_a_finding(half, text):
    assert verdict(Estimate(0.02, half)) == text


def test_the_command_finds_in_results_csv_what_the_records_say(records, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "outputs" / "pairs"
    folder.mkdir(parents=True)
    write_results(folder / "results.csv", records, {}, SETTINGS)
    again = read_results(folder / "results.csv")
    assert comparisons(again) == comparisons(records)
    monkeypatch.chdir(tmp_path)
    main(["pairs"])
    assert markdown(comparisons(records)) in capsys.readouterr().out
    assert (folder / "critic_or_not.png").read_bytes()[:4] == b"\x89PNG"
    upper, lower = ablation_figure(records).axes
    assert len(upper.lines) == len(lower.lines) == 5  # the curve, both linear codes, and trainings of both weights


def test_a_sweep_without_pairs_or_results_is_refused(records, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="run the sweep first"):
        main(["nothing"])
    folder = tmp_path / "outputs" / "alone"
    folder.mkdir(parents=True)
    write_results(folder / "results.csv", records[:6], {}, SETTINGS)
    with pytest.raises(RequestError, match="no training stands beside the same without critic"):
        main(["alone"])
