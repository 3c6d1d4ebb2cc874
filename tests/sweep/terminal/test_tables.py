"""The tables that a sweep ends with."""

from rich.console import Console

from tests.records import OBJECTIVES, baselines, finalists, record
from toconv.analysis.seeds import TESTED
from toconv.sweep.terminal.tables import finalists_table, front_table


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


def test_what_was_not_measured_of_a_baseline_without_a_grid_is_a_dash():
    trial, tested = record("a", 16, 0.5), dict.fromkeys(TESTED, 0.25)
    pool, tome = baselines(16, pool=0.6, tome=0.3)
    pool.values.update(tested)
    tome.values.update({name: value for name, value in tested.items() if name != "test_distortion_ridge"})
    (row,) = [line for line in lines(finalists_table([trial, *finalists("a", 0.2, 0.4), pool, tome])) if "tome" in line]
    assert row.count("—") == 1 and row.count("0.2500") == len(TESTED) - 1
