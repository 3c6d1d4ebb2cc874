"""results.csv from records whose columns are known."""

import csv

from tests.records import record
from toconv.analysis.records import Kind
from toconv.analysis.results import LAST, read_results, write_results
from toconv.evaluation.metrics import AGREEMENT_WEIGHT, by_size, of_size


def test_results_have_the_columns_of_the_contract_and_every_value_in_full(tmp_path):
    records = [record("a", 16, 1 / 3), record("b", 16, 0.2, kind=Kind.BASELINE, params={}, device_seconds=None)]
    write_results(tmp_path / "results.csv", records, {"a": "run"}, ["loss.lambda_gp"])
    with (tmp_path / "results.csv").open() as file:
        first, second = csv.DictReader(file)
    assert list(first) == [
        "trial_id",
        "name",
        "kind",
        "state",
        "cell",
        "tokens",
        "loss.lambda_gp",
        "distortion",
        "distortion_ridge",
        "perception",
        "embedding_agreement",
        "cosine",
        "violates",
        "steered",
        "extension",
        "device_seconds",
        "mlflow_run_id",
    ]
    assert float(first["distortion"]) == 1 / 3 and first["mlflow_run_id"] == "run"
    assert second["device_seconds"] == "" and second["loss.lambda_gp"] == ""


def test_what_is_read_back_is_what_was_written_less_what_the_ledger_alone_knows(tmp_path):
    records = [record("a", 16, 1 / 3, folder=None), record("b", 36, 0.2, kind=Kind.BASELINE, params={}, folder=None)]
    write_results(tmp_path / "results.csv", records, {"a": "run"}, ["loss.lambda_gp"])
    assert read_results(tmp_path / "results.csv") == records


def test_what_the_user_measured_comes_after_what_toconv_measured(tmp_path):
    values = {"distortion": 0.5, "accuracy": 0.25, "L_total": 1.0, "test_cosine": 0.5, "a_last": 2.0}
    records = [record("a", 16, 0, values=values, own=("accuracy", "a_last"), folder=None), record("b", 16, 0.2)]
    write_results(tmp_path / "results.csv", records, {}, [])
    head, first, second = (tmp_path / "results.csv").read_text().splitlines()
    assert head.split(",")[11:] == ["L_total", "test_cosine", "a_last", "accuracy", *LAST]
    assert first.split(",")[-7:-5] == ["2.0", "0.25"] and second.split(",")[-7:-5] == ["", ""]
    assert read_results(tmp_path / "results.csv")[0].values == values


def test_what_a_nested_trial_has_at_other_grid_sizes_is_read_back_with_its_sizes(tmp_path):
    sizes, asked = "model.compressor.grid_sizes", [4, 6, 12]
    others = {12: {"distortion": 0.1, "test_distortion": 0.2}, 4: {"embedding_agreement": 0.5}}
    values = {"distortion": 0.15, **{of_size(k, name): v for k, found in others.items() for name, v in found.items()}}
    given = record("a", 36, 0, params={sizes: asked, AGREEMENT_WEIGHT: 1.0}, values={**values, "k8_recall": 1.0})
    write_results(tmp_path / "results.csv", [given], {}, [sizes, AGREEMENT_WEIGHT])
    (read,) = read_results(tmp_path / "results.csv")
    assert by_size(read.values) == others and read.values == given.values
    assert read.params[sizes] == tuple(asked)
    assert read.is_given("k4_embedding_agreement") and not read.is_given("k12_test_distortion")
