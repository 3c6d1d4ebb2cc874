"""The hypervolume of a cell's trials, by Optuna's own function."""

# T complete trials, O objectives

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from optuna._hypervolume import compute_hypervolume
from optuna.trial import FrozenTrial, TrialState

from toconv.sweep.stopping import MARGIN, Course


def course(trials: Sequence[FrozenTrial], objectives: Mapping[str, str], first: int) -> Course | None:
    """By the trials' numbers. One that violates constraints adds nothing, nor does one beyond the reference point. None
    before `first` trials are complete."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    if len(complete) < first:
        return None
    sign_O = np.array([-1.0 if direction == "maximize" else 1.0 for direction in objectives.values()])
    costs_TO = sign_O * np.array([t.values for t in complete])
    worst_O, best_O = costs_TO[:first].max(0), costs_TO[:first].min(0)
    reference_O = worst_O + MARGIN * (worst_O - best_O)
    feasible_T = np.array([all(by <= 0 for by in t.constraints.values()) for t in complete])
    counts_T = feasible_T & (costs_TO <= reference_O).all(1)
    values = [
        float(compute_hypervolume(costs_TO[:n][counts_T[:n]], reference_O)) for n in range(first, len(complete) + 1)
    ]
    reference = dict(zip(objectives, (sign_O * reference_O).tolist(), strict=True))
    return Course(first, reference, tuple(values))
