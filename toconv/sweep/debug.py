"""One trial of a sweep in this process: no Ray, nothing written to the ledger or to MLflow."""

from __future__ import annotations

from pathlib import Path

from toconv.errors import ExitCode
from toconv.identity import trial_id
from toconv.paths import SweepPaths, TrialPaths
from toconv.progress import bar, console
from toconv.sweep.driver import make_request
from toconv.sweep.records import label
from toconv.sweep.search import Ledger
from toconv.sweep.spec import Sweep
from toconv.sweep.trainable import Trial


def run_one(sweep: Sweep, paths: SweepPaths, tokens: Path, fingerprint: str) -> ExitCode:
    """The trial that the sweep would draw first, with the command line's settings fixed. Starts anew each time.

    Errors come out as they are raised, so that a debugger stops where they arise.
    """
    ledger = Ledger(sweep, None, lambda params: trial_id(sweep.settings(params), fingerprint))
    proposal = ledger.propose({})
    folder = TrialPaths(paths.root / "debug" / proposal.trial_id)
    for left_over in folder.folder.glob("*.pt"):
        left_over.unlink()
    folder.metrics.unlink(missing_ok=True)
    console.print(f"debug: one trial of {sweep.file.name} in this process, without Ray: "
                  f"{label(proposal.params)}\nits folder: {folder.folder}")
    with bar("steps") as progress:
        task = progress.add_task("training", total=None)
        trial = Trial(make_request(sweep, proposal.params, tokens, folder),
                      on_log=lambda step, steps, _: progress.update(task, completed=step, total=steps))
        epochs = 0
        while epochs < trial.epochs_asked:
            row = trial.next_epoch()
            epochs = row["epoch"]
            values = ", ".join(f"{name} {value:.4g}" for name, value in row["metrics"].items())
            console.print(f"epoch {epochs}/{trial.epochs_asked}: {values}")
        trial.close()
    return ExitCode.DONE
