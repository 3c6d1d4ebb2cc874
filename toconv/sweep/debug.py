"""One trial of a sweep in this process: no Ray, nothing written to the ledger or to MLflow."""

from dataclasses import replace
from pathlib import Path

from toconv.analysis.records import label
from toconv.paths import SweepPaths, TrialPaths
from toconv.progress import bar, console
from toconv.sweep.file import Sweep
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.trainable import RunningTrial, trial_inputs
from toconv.training.folder import only_training
from toconv.training.identity import trial_id


def run_one(sweep: Sweep, paths: SweepPaths, store: Path) -> TrialPaths:
    """The trial that the sweep would draw first, with the command line's settings fixed; returns its files. Starts anew
    each time. Errors come out as they are raised, so that a debugger stops where they arise."""
    ledger = Ledger(sweep, None, lambda params: trial_id(sweep.settings(params), store.name))
    proposal = ledger.propose({})
    assert proposal is not None  # a sweep has a trial at least
    folder = TrialPaths(paths.root / "debug" / proposal.trial_id)
    with only_training(folder):
        for left_over in (*folder.checkpoints(), *filter(Path.exists, [folder.metrics])):
            left_over.unlink()
    console.print(f"debug: one trial of {sweep.file.name} in this process, without Ray: {label(proposal.params)}")
    console.print(f"its folder: {folder.folder}")
    with bar("steps") as progress:
        task = progress.add_task("training", total=None)
        trial = RunningTrial(
            replace(trial_inputs(sweep, proposal.params, store, folder), minutes=None),  # a debugger takes its time
            on_log=lambda step, steps, _: progress.update(task, completed=step, total=steps),
        )
        console.print(trial.stated)
        for _ in range(trial.epochs_asked):
            epoch = trial.next_epoch()
            values = ", ".join(f"{name} {value:.4g}" for name, value in epoch.metrics.items())
            console.print(f"epoch {epoch.epoch}/{trial.epochs_asked}: {values}")
        trial.close()
    return folder
