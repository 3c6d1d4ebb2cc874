"""A sweep in a folder whose file changes between starts; trials end at once, with numbers made of their parameters."""

import yaml

from tests.running import write_sweep
from toconv.paths import SweepPaths
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.going_on import go_on
from toconv.sweep.search.glance import generations
from toconv.sweep.search.ledger_place import Database
from toconv.training.epochs import Epoch

LAMBDA, CRITIC, K = "loss.lambda_gp", "training.n_critic", "model.compressor.output_grid_size"
TOKENS = "f00d"


def measured(params):
    """Made of what decides a trial, so that no two are equal."""
    return {"distortion": params.get(LAMBDA, 5.0) / 1000, "perception": 1 / params.get(CRITIC, 7), "cosine": 0.5}


class Grown:
    def __init__(self, folder, base, always=None, **changes):
        """`always`: what each of its files says."""
        self.folder, self.base, self.always, self.driver = folder, base, always or {}, None
        self.paths = SweepPaths(folder / "outputs" / "tiny")
        self.start(**changes)

    def asked(self, drop=(), **changes):
        """`drop`: settings that the file does not say."""
        settings = {key: value for key, value in self.base.items() if key not in drop}
        more = changes.pop("settings", {})
        return load_sweep(write_sweep(self.folder, {**settings, **more}, **self.always, **changes), [])

    def start(self, **changes):
        """Go on with this file, once the driver before is gone; returns what is said of it."""
        self.gone()
        sweep = self.asked(**changes)
        self.changes, self.told = go_on(sweep, self.paths, TOKENS, {})
        self.driver = Driver(sweep, self.paths, self.paths.root, TOKENS)
        self.driver.slots = 99
        return {c.key: (c.was, c.now, c.does) for c in self.changes}

    def gone(self):
        if self.driver:
            self.driver.ledger.close()

    def end(self, proposal):
        folder = self.paths.trial(proposal.trial_id)
        folder.folder.mkdir(parents=True, exist_ok=True)
        found = Epoch(1, 1000, 1.0, measured(proposal.params))
        folder.metrics.write_text(found.as_line())
        self.driver.progressed(proposal, found)
        self.driver.completed(proposal)

    def run(self, most=99):
        """Draw and end so many trials; returns the proposals."""
        found = []
        while len(found) < most and (proposal := self.driver.next_proposal()):
            found.append(proposal)
            self.end(proposal)
        return found

    def trials(self):
        return self.driver.ledger.trials()

    def ledgers(self):
        """All that there are, the one in use and what was left of others."""
        place = self.driver.ledger.place
        return generations(place) if isinstance(place, Database) else [*self.paths.root.glob("study*.db")]

    def kept(self):
        """Trials as Optuna has them, by trial_id."""
        return {t.user_attrs["trial_id"]: t for _, t in self.driver.ledger.kept()}

    def written(self):
        return yaml.safe_load(self.paths.request.read_text())
