"""What trackers tell of a record, read from its folder while its training writes there."""

from toconv.analysis.records import Kind, State, TrialRecord
from toconv.paths import TrialPaths, append_line
from toconv.tracking import run_facts
from toconv.training.epochs import Epoch


def test_an_epoch_that_ends_in_the_middle_of_a_look_is_not_told_without_what_its_machine_did(tmp_path, monkeypatch):
    paths, read_means = TrialPaths(tmp_path), run_facts.read_means
    record = TrialRecord("a", "k=2/0", Kind.TRIAL, State.RUNNING, "k=2", 4, {}, {}, folder=tmp_path)

    def end(epoch):
        append_line(paths.machine, {"epoch": epoch, "metrics": {"system/cpu": 50.0}})
        append_line(paths.metrics, Epoch(epoch, 1000, 1.0, {"distortion": 0.5}).as_row())

    def beside_the_training(path):
        means = read_means(path)
        end(2)
        return means

    end(1)
    monkeypatch.setattr(run_facts, "read_means", beside_the_training)
    told = run_facts.epochs(record)
    assert told and all("system/cpu" in {name for name, *_ in points} for points in told)
