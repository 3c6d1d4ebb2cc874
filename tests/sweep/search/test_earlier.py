"""Earlier studies that the sampler learns from: sweeps in folders, and studies of Optuna's own."""

import optuna
import pytest
from optuna.distributions import FloatDistribution

from tests.running import write_sweep
from tests.sweep.grown import LAMBDA, Grown, K
from toconv.errors import RequestError
from toconv.paths import SweepPaths
from toconv.sweep.file import load_sweep
from toconv.sweep.search.earlier import learn
from toconv.sweep.search.ledger import Ledger
from toconv.sweep.session import recorded_driver

OBJECTIVES = {"distortion": "minimize", "perception": "minimize"}
SEARCH = {LAMBDA: {"low": 0.3, "high": 90, "log": True}}


@pytest.fixture
def asked(tiny, tmp_path):
    def make(**changes):
        given = {"name": "later", "search": SEARCH, "grid": {K: [2, 3]}, "learn_from": ["tiny"], "sampler": "tpe"}
        return load_sweep(write_sweep(tmp_path, tiny, **{**given, **changes}), [])

    return make


@pytest.fixture
def outputs(tiny, tmp_path):
    earlier = Grown(tmp_path, tiny, grid={K: [2]}, search={LAMBDA: {"low": 0.1, "high": 100, "log": True}}, trials=16)
    earlier.run()
    return tmp_path / "outputs"


def within(outputs):
    """λ of each trial of the earlier sweep that lies in the later one's space."""
    trials = recorded_driver(SweepPaths(outputs / "tiny")).ledger.trials()
    return [value for t in trials if 0.3 <= (value := t.proposal.params[LAMBDA]) <= 90]


def test_the_trials_of_an_earlier_sweep_that_lie_in_the_space_are_learnt_from(asked, outputs):
    found = learn(asked(), outputs)
    known = within(outputs)
    assert 10 <= len(known) < 16 and list(found.trials) == ["k=2"]
    assert [t.params for t in found.trials["k=2"]] == [{LAMBDA: value} for value in known]
    assert found.told == [f"learn_from=tiny: {len(known)} of 16 trials lie in this space; the sampler learns from them"]


def test_they_enter_the_samplers_history_and_no_ledger(asked, outputs):
    sweep = asked(objectives=OBJECTIVES)
    with_them, without = (Ledger(sweep, None, lambda params: repr(params)) for _ in range(2))
    with_them.learn(learn(sweep, outputs).trials)
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.add_trials(learn(sweep, outputs).trials["k=2"])
    study.sampler = with_them._sampling._sampler("k=2", 0, 0)
    expected = study.ask({LAMBDA: FloatDistribution(0.3, 90, log=True)}).params[LAMBDA]
    drawn = [with_them.propose({}), without.propose({})]
    assert [p.cell for p in drawn] == ["k=2", "k=2"]
    assert drawn[0].params[LAMBDA] == expected != drawn[1].params[LAMBDA]
    assert [t.proposal.cell for t in with_them.trials()] == [t.proposal.cell for t in without.trials()]


def test_other_objectives_are_refused_with_both(asked, outputs):
    with pytest.raises(RequestError, match=r"learn_from=tiny: its objectives are .*perception.* this sweep, .*cosine"):
        learn(asked(objectives={"cosine": "maximize"}), outputs)
    with pytest.raises(RequestError, match="learn_from=nothing: .*holds no sweep; there are tiny"):
        learn(asked(learn_from=["nothing"]), outputs)
    with pytest.raises(RequestError, match="learn_from=later: is this very sweep"):
        learn(asked(learn_from=["later"]), outputs)


def test_a_trial_of_which_a_constraint_was_not_measured_is_left_out(asked, outputs):
    """Optuna's samplers need every constraint of every trial."""
    assert learn(asked(constraints={"cosine": ">= 0.4"}), outputs).trials["k=2"]
    assert not learn(asked(constraints={"embedding_agreement": ">= 0.4"}), outputs).trials


@pytest.fixture
def study(tmp_path):
    url = f"sqlite:///{tmp_path}/mine.db"
    made = optuna.create_study(storage=url, study_name="mine", directions=["minimize", "minimize"])
    for value in (2.0, 20.0, 95.0):
        params = {LAMBDA: value, K: 3}
        given = {LAMBDA: FloatDistribution(0.1, 100), K: optuna.distributions.IntDistribution(2, 4)}
        made.add_trial(optuna.trial.create_trial(params=params, distributions=given, values=[value, 1.0]))
    return url, made


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_a_study_of_optunas_is_learnt_from_where_it_names_the_same_metrics(asked, study, tmp_path):
    url, made = study
    with pytest.raises(RequestError, match="does not say what it measured; study.set_metric_names"):
        learn(asked(learn_from=[url]), tmp_path)
    made.set_metric_names(["distortion", "perception"])
    for address in (url, f"{url}#mine"):
        found = learn(asked(learn_from=[address]), tmp_path)
        assert {t.params[LAMBDA]: tuple(t.values) for t in found.trials["k=3"]} == {2.0: (2.0, 1.0), 20.0: (20.0, 1.0)}
    made.set_metric_names(["distortion", "cosine"])
    with pytest.raises(RequestError, match="its objectives are .*cosine"):
        learn(asked(learn_from=[url]), tmp_path)


def test_an_address_that_holds_no_such_study_is_refused_and_no_file_is_made(asked, study, tmp_path):
    with pytest.raises(RequestError, match="must name one study, as URL#STUDY; there are mine"):
        learn(asked(learn_from=[f"{study[0]}#other"]), tmp_path)
    with pytest.raises(RequestError, match="must be postgresql://, not postgres://"):
        learn(asked(learn_from=["postgres://me@host/db#mine"]), tmp_path)
    with pytest.raises(RequestError, match="no such file"):
        learn(asked(learn_from=[f"sqlite:///{tmp_path}/gone.db"]), tmp_path)
    assert not (tmp_path / "gone.db").exists()
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(RequestError, match="cannot be read"):
        learn(asked(learn_from=[f"sqlite:///{tmp_path}/text.db"]), tmp_path)


def test_an_address_with_a_password_is_refused(asked):
    with pytest.raises(RequestError, match="learn_from: holds a password") as refused:
        asked(learn_from=["postgresql://me:hunter22@host/db#mine"])
    assert "hunter22" not in str(refused.value)
