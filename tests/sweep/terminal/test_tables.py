"""The tables that a sweep ends with."""

from rich.console import Console

from tests.records import OBJECTIVES, baselines, finalists, record
from toconv.analysis.seeds import TESTED
from toconv.evaluation.metrics import GIVEN_NOTE
from toconv.sweep.terminal.tables import finalists_table, front_table

OBJECTIVES_2 = {"distortion": "minimize", "embedding_agreement": "maximize"}


def lines(table):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def test_the_front_stands_above_the_baselines_of_its_tokens():
    records = [record("a", 16, 0.5), record("beaten", 16, 0.7), *baselines(16, pool=0.6, pca=0.4)]
    found = [line for line in lines(front_table(records, OBJECTIVES)) if " 16 " in line]
    assert [next(name for name in ("k/a", "pool", "pca") if name in line) for line in found] == ["k/a", "pool", "pca"]
    assert "0.5000" in found[0] and "lambda_gp=1.5" in found[0] and "lambda_gp" not in found[1]


def test_finalists_stand_with_their_interval_above_baselines_and_without_them_there_is_no_table():
    trial, tested = record("a", 16, 0.5), dict.fromkeys(TESTED, 0.25)
    (pool,) = baselines(16, pool=0.6)
    pool.values.update(tested)
    text = "\n".join(lines(finalists_table([trial, *finalists("a", 0.2, 0.4), pool])))
    assert "0.3000 ± 1.2706" in text and text.index("k/a") < text.index("pool") and "0.2500" in text
    assert finalists_table([trial, pool]) is None


def test_what_a_training_was_given_as_its_loss_is_marked_and_said_to_be_so():
    values = {"distortion": 0.5, "perception": 0.1, "embedding_agreement": 0.9}
    given = record("given", 16, 0.5, values=values, settings={"loss.agreement_weight": 2.0})
    found = "\n".join(
        lines(front_table([given, record("not", 36, 0.4, values={**values, "distortion": 0.4})], OBJECTIVES_2))
    )
    assert found.count("0.9000†") == 1 and found.count("0.9000") == 2 and "0.5000†" not in found
    assert GIVEN_NOTE in " ".join(found.split())
    tested = finalists("given", 0.2, 0.4, test_embedding_agreement=0.75)
    for run in tested:
        run.params["loss.agreement_weight"] = 2.0
    assert "0.7500 ± 0.0000†" in "\n".join(lines(finalists_table([given, *tested])))


def test_what_was_not_measured_of_a_baseline_without_a_grid_is_a_dash():
    trial, tested = record("a", 16, 0.5), dict.fromkeys(TESTED, 0.25)
    pool, tome = baselines(16, pool=0.6, tome=0.3)
    pool.values.update(tested)
    tome.values.update({name: value for name, value in tested.items() if name != "test_distortion_ridge"})
    (row,) = [line for line in lines(finalists_table([trial, *finalists("a", 0.2, 0.4), pool, tome])) if "tome" in line]
    assert row.count("—") == 1 and row.count("0.2500") == len(TESTED) - 1


def test_what_the_user_measured_is_a_column_of_the_front_and_empty_for_baselines():
    values = {"distortion": 0.5, "cosine": 0.5, "accuracy": 0.875}
    records = [record("a", 16, 0, values=values, own=("accuracy",)), *baselines(16, pool=0.6)]
    head, *found = [line for line in lines(front_table(records, OBJECTIVES)) if "accuracy" in line or " 16 " in line]
    assert "accuracy" in head and "0.8750" in found[0] and "0.8750" not in found[1]
