"""A sweep's trials as tracking, results.csv and the report see them."""

from collections.abc import Sequence
from dataclasses import replace

from toconv.analysis.records import Kind, State, TrialRecord
from toconv.paths import SweepPaths
from toconv.sweep.constraints import violated
from toconv.sweep.evaluations import Evaluations
from toconv.sweep.extending import extension
from toconv.sweep.file import Sweep
from toconv.sweep.proposals import Trial
from toconv.tracking.provenance import settings_of_tokens, settings_of_training
from toconv.training.epochs import read_epochs


class Recording:
    """Reads what trials left in their folders and what evaluations kept."""

    def __init__(self, sweep: Sweep, paths: SweepPaths, evaluations: Evaluations, earlier: Sequence[Trial]) -> None:
        """`earlier` trials may be of a file of this sweep that searched what is fixed by now."""
        self._sweep, self._paths, self._evaluations = sweep, paths, evaluations
        self._settings = {**settings_of_training(sweep.base), **sweep.unsearched()}  # below a trial's parameters
        searched = dict.fromkeys(key for t in earlier if t.proposal.is_searched for key in t.proposal.params)
        fixed = (key for key in searched if key not in sweep.searched() and key in self._settings)
        self._no_longer = {key: self._settings[key] for key in fixed}  # what trials differ in, as it is now
        self.columns = [*sweep.searched(), *self._no_longer]  # of results.csv, the settings

    def all(self, trials: Sequence[Trial], baselines: Sequence[TrialRecord]) -> list[TrialRecord]:
        """With the constraint that each violates."""
        shared = settings_of_tokens(self._sweep.base)
        found = [self.of(trial) for trial in trials]
        found += [replace(record, settings={**shared, **record.params}) for record in baselines]
        return [replace(r, violates=violated(self._sweep.file.constraints, r.values)) for r in found]

    def of(self, trial: Trial) -> TrialRecord:
        """Its final values are its last epoch's."""
        proposal, paths = trial.proposal, self._paths.trial(trial.proposal.trial_id)
        epochs = read_epochs(paths.metrics)
        ended = trial.state in {State.COMPLETE, State.PRUNED} and epochs
        own = self._evaluations.metrics(trial)
        names = ("trial_id", "name", "cell", "finalist_of", "extends", "number")
        same = {name: getattr(proposal, name) for name in names}
        return TrialRecord(
            **same,
            kind=Kind.FINALIST if proposal.finalist_of else Kind.EXTENDED if proposal.extends else Kind.TRIAL,
            state=trial.state,
            tokens=self._sweep.tokens(proposal.params),
            params={**self._no_longer, **proposal.params},
            values={**epochs[-1].metrics, **own} if ended else {},
            device_seconds=epochs[-1].seconds if epochs else None,
            folder=paths.folder,
            reason=trial.reason,
            steered="; ".join(note.says for note in trial.steered),
            extension=extension(proposal, self._sweep.epochs(proposal.params)),
            skipped=trial.skipped,
            kept=paths.latest.exists(),
            own=tuple(own),
            not_evaluated=self._evaluations.failure(trial),
            settings={**self._settings, **proposal.params},
        )
