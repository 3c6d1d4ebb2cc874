"""Bounds on what is measured: as they are written, and in Optuna's own hands."""

import optuna
import pytest

from tests.running import write_sweep
from toconv.errors import RequestError
from toconv.paths import SweepPaths
from toconv.sweep.constraints import bound, violated, violations
from toconv.sweep.driver import Driver
from toconv.sweep.file import load_sweep
from toconv.sweep.search.ledger import Ledger
from toconv.training.epochs import Epoch

LAMBDA = "loss.lambda_gp"


@pytest.mark.parametrize("text", [">= 0.9", ">=0.9", " <= -3e-2 ", "<=.5"])
def test_a_bound_is_kept_as_it_is_written(text):
    assert bound(text) == text.replace(" ", "")


@pytest.mark.parametrize("text", ["0.9", "> 0.9", ">= a", ">= 1e999", ">=", "== 1", ">= nan"])
def test_another_text_is_none(text):
    with pytest.raises(ValueError, match="must read"):
        bound(text)


def test_by_how_much_each_is_missed():
    asked = {"embedding_agreement": ">=0.9", "perception": "<=0.1", "accuracy": ">=1"}
    values = {"embedding_agreement": 0.75, "perception": 0.05}
    assert violations(asked, values) == pytest.approx({"embedding_agreement": 0.15, "perception": -0.05})
    assert violated(asked, values) == "embedding_agreement>=0.9"
    assert violated(asked, {"embedding_agreement": 0.9, "perception": 0.1}) == ""


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"embedding_agreement": "0.9"}, 'must read ">= NUMBER" or "<= NUMBER"'),
        ({"tokens": ">= 3"}, "tokens: must be one of distortion, distortion_ridge"),
        ({"agreement": ">= 0.9"}, "agreement: must be one of distortion"),
    ],
)
def test_what_bounds_nothing_is_refused(tiny, tmp_path, asked, told):
    with pytest.raises(RequestError) as caught:
        load_sweep(write_sweep(tmp_path, tiny, constraints=asked), [])
    assert told in str(caught.value)


@pytest.mark.slow
def test_optuna_knows_what_breaks_a_constraint_and_its_sampler_heeds_it(tiny, tmp_path):
    """Distortion falls with λ; agreement is enough below 10 alone. Unconstrained draws go above it, the others stay."""

    def drawn(constraints, folder):
        folder.mkdir()
        changes = {"search": {LAMBDA: {"low": 0.0, "high": 100.0}}, "objectives": {"distortion": "minimize"}}
        grid = {"grid": {"model.compressor.output_grid_size": [2]}, "trials": 24, "sampler": "tpe"}
        sweep = load_sweep(write_sweep(folder, tiny, constraints=constraints, **changes, **grid), [])
        ledger = Ledger(sweep, folder / "study.db", lambda params: repr(sorted(params.items())))
        found = []
        while proposal := ledger.propose({}):
            found.append(proposal.params[LAMBDA])
            agreement = 1.0 if found[-1] <= 10 else 0.5
            ledger.complete(proposal, {"distortion": 1 - found[-1] / 100, "embedding_agreement": agreement})
        return found[12:]

    free = drawn({}, tmp_path / "free")
    bound_ = drawn({"embedding_agreement": ">= 0.9"}, tmp_path / "bound")
    assert sum(value <= 10 for value in bound_) > sum(value <= 10 for value in free)
    (study,) = optuna.get_all_study_names(f"sqlite:///{tmp_path}/bound/study.db")
    trials = optuna.load_study(study_name=study, storage=f"sqlite:///{tmp_path}/bound/study.db").trials
    for trial in trials:
        expected = 0.9 - (1.0 if trial.params[LAMBDA] <= 10 else 0.5)
        assert trial.constraints == {"embedding_agreement": pytest.approx(expected)}


def test_results_mark_what_breaks_one(tiny, tmp_path):
    grid = {"grid": {"model.compressor.output_grid_size": [2]}, "constraints": {"distortion": "<= 0.5"}}
    paths = SweepPaths(tmp_path / "outputs" / "tiny")
    paths.root.mkdir(parents=True)
    driver = Driver(load_sweep(write_sweep(tmp_path, tiny, **grid), []), paths, tmp_path, "f00d")
    for distortion in (0.25, 0.75):
        proposal = driver.next_proposal()
        trial = paths.trial(proposal.trial_id)
        trial.folder.mkdir(parents=True)
        epoch = Epoch(3, 3000, 3.0, {"distortion": distortion, "perception": 0.1})
        trial.metrics.write_text(epoch.as_line())
        driver.progressed(proposal, epoch)
        driver.completed(proposal)
    assert [r.violates for r in driver.records()] == ["", "distortion<=0.5"]
