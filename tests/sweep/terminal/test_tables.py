"""The tables that a sweep ends with."""

from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.records import OBJECTIVES, baselines, finalists, record
from toconv.analysis.records import Kind
from toconv.evaluation.metrics import GIVEN_NOTE, Place, names_in
from toconv.sweep.terminal.tables import TESTED, best_table, finalists_table

OBJECTIVES_2 = {"distortion": "minimize", "embedding_agreement": "maximize"}


def lines(table):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def test_the_best_of_each_number_of_tokens_stands_above_the_baselines_that_it_is_held_against():
    records = [record("a", 16, 0.5), record("beaten", 16, 0.7), *baselines(16, strided=0.8, linear=0.4, pool=0.6)]
    found = [line for line in lines(best_table(records, OBJECTIVES)) if " 16 " in line]
    assert [line.split()[:3] for line in found] == [
        ["16", "k/a", "0.5000"],
        ["16", "pool", "0.6000"],
        ["16", "linear", "0.4000"],
    ]


@pytest.mark.parametrize("sizes", [1, 4, 6, 7, 23])
@pytest.mark.parametrize("own", [(), ("accuracy", "a_long_name_of_mine"), tuple(f"measure_{n}" for n in range(9))])
def test_it_fits_80_columns_and_one_screen(sizes, own):
    values = {**dict.fromkeys(names_in(Place.TABLE), 0.5), **dict.fromkeys(own, 0.25)}
    records = []
    for k in range(1, sizes + 1):
        name = f"k={k},n_critic=3,width=192/{k}"
        settings = {"loss.agreement_weight": 1.0}
        records += [record(f"t{k}", k * k, 0, values=values, own=own, name=name, settings=settings)]
        records += [*baselines(k * k, pool=0.6, linear=0.4, strided=0.5, tome=0.5)]
    found = lines(best_table(records[: 5 * sizes], {"distortion": "minimize", "embedding_agreement": "maximize"}))
    assert max(map(cell_len, (line.rstrip() for line in found))) <= 80
    short = [r if r.kind == Kind.BASELINE else replace(r, name="k=12/3") for r in records]
    assert len(lines(best_table(short, OBJECTIVES))) <= 24


def test_finalists_stand_with_their_interval_above_baselines_and_without_them_there_is_no_table():
    trial, tested = record("a", 16, 0.5), dict.fromkeys(TESTED, 0.25)
    (pool,) = baselines(16, pool=0.6)
    pool.values.update(tested)
    found = lines(finalists_table([trial, *finalists("a", 0.2, 0.4), pool]))
    text = "\n".join(found)
    assert "0.3000 ± 1.2706" in text and text.index("k/a") < text.index("pool") and "0.2500" in text
    assert max(len(line.rstrip()) for line in found) <= 80
    assert finalists_table([trial, pool]) is None


def test_what_a_training_was_given_as_its_loss_is_marked_and_said_to_be_so():
    values = {"distortion": 0.5, "perception": 0.1, "embedding_agreement": 0.9}
    given = record("given", 16, 0.5, values=values, settings={"loss.agreement_weight": 2.0})
    found = "\n".join(
        lines(best_table([given, record("not", 36, 0.4, values={**values, "distortion": 0.4})], OBJECTIVES_2))
    )
    assert found.count("0.9000†") == 1 and found.count("0.9000") == 2 and "0.5000†" not in found
    assert GIVEN_NOTE in " ".join(found.split())
    tested = finalists("given", 0.2, 0.4, test_embedding_agreement=0.75)
    for run in tested:
        run.params["loss.agreement_weight"] = 2.0
    assert "0.7500 ± 0.0000†" in "\n".join(lines(finalists_table([given, *tested])))


def test_what_was_not_measured_of_a_baseline_without_a_grid_is_a_dash():
    trial, tested = record("a", 16, 0.5), dict.fromkeys(TESTED, 0.25)
    pool, other = baselines(16, pool=0.6, linear=0.3)
    pool.values.update(tested)
    other.values[TESTED[0]] = 0.25
    table = finalists_table([trial, *finalists("a", 0.2, 0.4), pool, other])
    (row,) = [line for line in lines(table) if "linear" in line]
    assert row.count("—") == 1 and row.count("0.2500") == len(TESTED) - 1


def test_what_the_user_measured_is_a_column_of_the_front_and_empty_for_baselines():
    values = {"distortion": 0.5, "cosine": 0.5, "accuracy": 0.875}
    records = [record("a", 16, 0, values=values, own=("accuracy",)), *baselines(16, pool=0.6)]
    head, *found = [line for line in lines(best_table(records, OBJECTIVES)) if "accuracy" in line or " 16 " in line]
    assert "accuracy" in head and "0.8750" in found[0] and "0.8750" not in found[1]
