"""A trial on a worker: what becomes of what goes wrong."""

import errno
import json
import platform
from dataclasses import asdict, replace

import pytest
import torch

from toconv.errors import MachineryError, TrainingFailed
from toconv.machine import read_means
from toconv.sweep.trainable import RunningTrial, TrialInputs, step
from toconv.sweep.tune.trial import RayTrial
from toconv.sweep.versions import versions
from toconv.tokens.encoding import prepare_store
from toconv.tokens.manifest import SPLITS
from toconv.training import resumable


def trial(settings, tmp_path):
    tokens = prepare_store(settings)
    return RunningTrial(TrialInputs(settings.model_dump(mode="json"), str(tokens), str(tmp_path / "trial"), 1))


def outcome_of(one, failure):
    one.next_epoch = failure
    return step(one)


def test_a_trial_steps_to_its_last_epoch_and_then_repeats_its_outcome(settings, tmp_path):
    one = trial(settings, tmp_path)
    outcomes = [step(one) for _ in range(4)]
    assert [o["row"]["epoch"] for o in outcomes] == [1, 2, 3, 3]
    assert [o["complete"] for o in outcomes] == [False, False, True, True]


def test_a_trial_states_which_tokens_it_reads_where_they_lie_since_there_is_no_room_for_a_copy(
    settings, tmp_path, monkeypatch
):
    monkeypatch.setenv("TOCONV_CACHE", str(tmp_path / "cache"))
    asked = settings.model_copy(update={"store": settings.store.model_copy(update={"local_cache_gb": 1e-12})})
    tokens = prepare_store(asked)
    inputs = TrialInputs(asked.model_dump(mode="json"), str(tokens), str(tmp_path / "trial"), 1)
    monkeypatch.setattr("toconv.sweep.tune.trial.node_id", lambda: "none")
    monkeypatch.setattr("toconv.sweep.tune.trial.is_drained", lambda: False)
    worker = RayTrial({"inputs": asdict(inputs)})
    outcome = json.loads(worker.step()["outcome"])
    worker.cleanup()
    stated = json.loads((tmp_path / "trial" / "worker.json").read_text())["stated"]
    assert [*outcome["uncopied"]] == [f"{platform.node()}: {split} tokens of {tokens}" for split in SPLITS]
    for what, why in outcome["uncopied"].items():
        assert why.startswith("read where they lie: this split takes ") and "store.local_cache_gb=1e-12" in why
        assert f"{what.partition(': ')[2]}: {why}" in stated


def test_a_worker_of_other_versions_or_without_the_tokens_gives_no_verdict_and_says_why(settings, tmp_path):
    one = TrialInputs(settings.model_dump(mode="json"), str(tmp_path / "tokens"), str(tmp_path / "trial"), 1)
    with pytest.raises(MachineryError, match=rf"{platform.node()}: .*{tmp_path / 'tokens'}"):
        RunningTrial(one)
    with pytest.raises(
        MachineryError, match=rf"{platform.node()} has torch {versions()['torch']}, this machine 2.0.0: "
    ):
        RunningTrial(replace(one, versions={**versions(), "torch": "2.0.0"}))


def test_memory_that_is_not_there_makes_a_trial_infeasible(settings, tmp_path):
    outcome = outcome_of(trial(settings, tmp_path), lambda: torch.empty(2**50))
    assert outcome["infeasible"] and "out of memory" in outcome["failed"]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), KeyError("k")]
)
def test_what_ends_a_trial_while_it_is_set_up_is_told_as_in_a_step_and_leaves_the_worker_to_the_next(
    settings, tmp_path, monkeypatch, error
):
    tokens, folder = prepare_store(settings), tmp_path / "trial"
    inputs = TrialInputs(settings.model_dump(mode="json"), str(tokens), str(folder), 1, minutes=5)
    monkeypatch.setattr("toconv.sweep.tune.trial.node_id", lambda: "none")
    monkeypatch.setattr("toconv.sweep.tune.trial.is_drained", lambda: False)
    with monkeypatch.context() as patch:

        def fail(*given):
            raise error

        patch.setattr("toconv.sweep.trainable.Training", fail)
        worker = RayTrial({"inputs": asdict(inputs)})
        result = worker.step()
    outcome = json.loads(result["outcome"])
    assert result["done"] and outcome["failed"].endswith(str(error))
    infeasible = isinstance(error, torch.OutOfMemoryError)
    assert outcome.get("infeasible", False) == infeasible == outcome["failed"].startswith("out of memory: ")
    assert (folder / "error.txt").exists() == (not infeasible), "a trace of what nobody foresaw"
    assert not (folder / "overdue.txt").exists(), "its time no longer runs"
    worker.reset_config({"inputs": asdict(inputs)})
    assert json.loads(worker.step()["outcome"])["row"]["epoch"] == 1
    worker.cleanup()


def test_a_verdict_a_machine_that_gave_way_and_a_mistake_are_told_apart(settings, tmp_path):
    def raising(error):
        def fail():
            raise error

        return fail

    one = trial(settings, tmp_path)
    assert outcome_of(one, raising(TrainingFailed("L_disc=nan"))) == {"failed": "L_disc=nan"}
    assert outcome_of(one, raising(MachineryError("full"))) == {"machinery": "full", "machine": platform.node()}
    full = outcome_of(one, raising(OSError(errno.ENOSPC, "No space left on device", "/data")))["machinery"]
    assert full == "the disk or the system gave way: [Errno 28] No space left on device: '/data'"
    assert outcome_of(one, raising(KeyError("nothing")))["failed"].startswith("KeyError")
    assert "KeyError" in one.paths.error.read_text()


def test_what_the_machine_did_is_there_as_soon_as_the_epoch_is(settings, tmp_path, monkeypatch):
    """Deliveries take both, whenever they look."""
    seen, append = [], resumable.append_line

    def looked(path, row):
        seen.append((row["epoch"], list(read_means(path.with_name("machine.jsonl")))))
        append(path, row)

    monkeypatch.setattr(resumable, "append_line", looked)
    measured = settings.experiment.model_copy(update={"system_metrics": True})
    one = trial(settings.model_copy(update={"experiment": measured}), tmp_path)
    assert [step(one)["complete"] for _ in range(3)] == [False, False, True]
    one.close()
    assert seen == [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])]


def test_an_extension_whose_beginning_cannot_be_read_has_failed_with_the_reason(settings, tmp_path):
    tokens, lost = prepare_store(settings), tmp_path / "lost.pt"
    inputs = TrialInputs(settings.model_dump(mode="json"), str(tokens), str(tmp_path / "trial"), 1)
    one = RunningTrial(replace(inputs, extends=(str(lost), 1)))
    assert step(one) == {"failed": f"{lost}: no such checkpoint"}
    one.close()
