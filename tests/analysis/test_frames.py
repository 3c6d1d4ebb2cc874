"""results.csv as pandas has it, and the two functions of a notebook."""

import csv

import pandas as pd
import pytest

import toconv
from tests.records import baselines, record
from tests.running import write_sweep
from toconv.analysis.frames import frame, front_frame
from toconv.analysis.records import Kind, State
from toconv.analysis.results import write_results
from toconv.errors import DamagedFile, RequestError
from toconv.paths import SweepPaths
from toconv.sweep.file import load_sweep
from toconv.sweep.request import record_request

OBJECTIVES = {"distortion": "minimize", "cosine": "maximize"}


@pytest.fixture
def path(tmp_path):
    records = [
        record("1e5", 16, 0.3, 0.2, folder=None),
        record("b", 16, 0.4, 0.9, folder=None, steered="added by alice"),
        record("beaten", 16, 0.5, 0.1, folder=None),
        record("c", 36, 0.2, folder=None, device_seconds=None),
        record("d", 36, 0.2, state=State.FAILED, values={}, folder=None),
        record("e", 36, 0.1, kind=Kind.FINALIST, folder=None),
        *baselines(16, pool=0.1),
    ]
    path = tmp_path / "outputs" / "tiny" / "results.csv"
    write_results(path, records, {"b": "run"}, ["loss.lambda_gp"])
    return path


def test_each_row_and_column_of_the_file_is_there_with_its_unit(path):
    found = frame(path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert list(found.columns) == list(rows[0]) and list(found["trial_id"]) == [row["trial_id"] for row in rows]
    assert found["trial_id"][0] == "1e5" and list(found["steered"][:2]) == ["", "added by alice"]
    assert found["distortion"].dtype == float and pd.isna(found["distortion"][4])
    assert found.attrs["units"]["distortion"] == "FVU, own decoder" and "device_seconds" in found.attrs["units"]


def test_the_front_has_the_trials_that_none_beats_and_marks_the_recommended_ones(path):
    found = front_frame(path, OBJECTIVES, None)
    assert list(zip(found["trial_id"], found["recommended"], strict=True)) == [("1e5", True), ("b", False), ("c", True)]
    assert list(front_frame(path, OBJECTIVES, 6)["trial_id"]) == ["c"]
    with pytest.raises(RequestError, match=r"k=5: no trial of it is complete; complete are trials of k = 4, 6"):
        front_frame(path, OBJECTIVES, 5)


def test_a_notebook_asks_by_the_name_of_a_sweep(path, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sweep = load_sweep(write_sweep(tmp_path, tiny), [])
    record_request(sweep, SweepPaths.named("tiny"), "f00d", {})
    assert len(toconv.results("tiny")) == 7
    assert list(toconv.front("tiny", k=4)["trial_id"]) == ["1e5"], "perception is the same in all"
    with pytest.raises(RequestError, match="run the sweep first"):
        toconv.results("nothing")
    path.write_text("trial_id,name\nx\n")
    with pytest.raises(DamagedFile):
        toconv.results("tiny")
