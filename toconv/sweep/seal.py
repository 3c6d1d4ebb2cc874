"""What is final is sealed: a checksum of each file that holds a finished trial's results."""

import json
from collections.abc import Mapping, Sequence

from pydantic import TypeAdapter, ValidationError

from toconv import checkpoint
from toconv.analysis.records import State
from toconv.errors import CheckpointError, DamagedFile, SealBroken
from toconv.paths import SweepPaths, TrialPaths, sha256, write_atomic
from toconv.state_files import read_bytes
from toconv.sweep.evaluations import Evaluations
from toconv.sweep.proposals import Trial
from toconv.training.epochs import Epoch, epochs_in, read_epochs

Seal = Mapping[str, str]  # {file's name: sha256}
FINISHED = "every epoch is done; metrics.jsonl holds the results\n"  # then the seal, where there is one
SEAL = TypeAdapter(dict[str, str])


def seal(paths: TrialPaths) -> Seal:
    """Of the files that are there; checkpoints hold the epochs that they must agree with."""
    return {path.name: sha256(path) for path in (paths.metrics, paths.config) if path.is_file()}


def finish(paths: TrialPaths) -> None:
    """Mark a trial as finished: its results may be used by whoever asks for the same identity."""
    write_atomic(paths.finished, FINISHED + json.dumps(seal(paths)) + "\n")


def intact(paths: TrialPaths) -> bool:
    """Whether the trial is marked as finished, and is as it was then. Marks of version 0.1 have no seal. One that is
    removed meanwhile is not."""
    if not paths.finished.exists():
        return False
    try:
        text = read_bytes(paths.finished)
        known = SEAL.validate_json(text.removeprefix(FINISHED.encode())) if text != FINISHED.encode() else {}
        return bool(read_epochs(paths.metrics)) and not differences(paths, known)
    except (DamagedFile, ValidationError, FileNotFoundError):
        return False


def differences(paths: TrialPaths, known: Seal) -> list[str]:
    """What is not as `known` has it; a checkpoint must hold this training's epochs, or an earlier state of it.
    Checkpoints may be gone."""
    found = []
    for name, digest in known.items():
        path = paths.folder / name
        if not path.is_file():
            found.append(f"{path}: is gone")
        elif sha256(path) != digest:
            found.append(f"{path}: has other content")
    return found or (_foreign_checkpoints(paths) if known else [])


def _foreign_checkpoints(paths: TrialPaths) -> list[str]:
    epochs, found, seen = read_epochs(paths.metrics), [], set()
    for path in paths.checkpoints():
        try:
            inode = path.stat().st_ino
            if path != paths.latest and inode in seen:
                continue
            seen.add(inode)
            own = epochs_in(checkpoint.glance(path, ("epochs",)), path)
        except (CheckpointError, FileNotFoundError) as error:
            if path.exists():  # else the sweep's driver has dropped it by now
                found.append(str(error))
            continue
        whole = len(epochs) if path == paths.latest else len(own)
        if own != epochs[:whole]:
            found.append(f"{path}: is of another training")
    return found


def check_seals(paths: SweepPaths, trials: Sequence[Trial], evaluations: Evaluations) -> None:
    """Raises SealBroken where a file is not as it was when its trial ended."""
    found = [line for trial in trials for line in _unlike_its_end(paths, trial, evaluations)]
    if found:
        raise SealBroken(
            f"results are not as they were when their trials ended. {'; '.join(found)}. Put back what "
            f"{paths.root} held, or choose another name=, which takes over all that is as it was and trains "
            "the rest anew"
        )


def _unlike_its_end(paths: SweepPaths, trial: Trial, evaluations: Evaluations) -> list[str]:
    own, name = paths.trial(trial.proposal.trial_id), trial.proposal.name
    found = differences(own, trial.seal) if trial.seal else []
    if not found and trial.state is State.COMPLETE:
        epochs = read_epochs(own.metrics)
        if epochs:
            ledger = paths.study if paths.study.exists() else "the ledger"
            found = [f"{ledger}: {line}" for line in _unlike_the_ledger(trial, epochs[-1], evaluations)]
        else:
            found = [f"{own.metrics}: holds no epoch"]
    return [f"{line} (trial {name})" for line in found]


def _unlike_the_ledger(trial: Trial, last: Epoch, evaluations: Evaluations) -> list[str]:
    found = evaluations.found(trial.proposal.trial_id)
    measured = {**last.metrics, **(found.metrics if found else {})}
    differing = {k: v for k, v in trial.values.items() if trial.seal and measured.get(k, v) != v}
    return [f"has {k}={v}, was {measured[k]}" for k, v in differing.items()]
