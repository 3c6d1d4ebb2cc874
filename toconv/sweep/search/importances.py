"""How much each searched setting matters to the first objective, by fANOVA (Hutter et al. 2014) as Optuna has it."""

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

from toconv.sweep.search.sampling import inside

FEWEST = 4  # complete trials of a cell that importances are told of
MOST = 250  # of them that are looked at: fANOVA's time grows faster than they do


def importances(
    trials: Sequence[FrozenTrial], objectives: Mapping[str, Literal["minimize", "maximize"]]
) -> dict[str, float] | None:
    """{setting: share of the first objective's variance} of a cell's trials, with {objective: direction}; of more than
    MOST complete ones, of so many drawn at random, always the same. None where too few are complete, or there is no
    variance to share out."""
    complete = [t for t in inside(trials) if t.state is TrialState.COMPLETE]
    if len(complete) < FEWEST:
        return None
    study = optuna.create_study(directions=[*objectives.values()])
    study.add_trials(complete if len(complete) <= MOST else random.Random(0).sample(complete, MOST))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        try:
            return optuna.importance.get_param_importances(study, target=lambda t: t.values[0], evaluator=evaluator)
        except (RuntimeError, ValueError):  # no variance
            return None


def import_fanova(trials: int) -> None:
    """Import what `importances` needs for so many trials and Optuna puts off: scikit-learn, two seconds."""
    if trials >= FEWEST:
        optuna.importance.FanovaImportanceEvaluator()
