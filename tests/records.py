"""Trial records made by hand, for tests whose answers are known."""

import random
from pathlib import Path

from toconv.analysis.records import Kind, State, TrialRecord
from toconv.analysis.seeds import TESTED

OBJECTIVES = {"distortion": "minimize", "cosine": "maximize"}


def record(trial_id, tokens, distortion, cosine=0.5, **changes):
    facts = {
        "trial_id": trial_id,
        "name": f"k/{trial_id}",
        "kind": Kind.TRIAL,
        "state": State.COMPLETE,
        "cell": "k",
        "tokens": tokens,
        "params": {"loss.lambda_gp": 1.5},
        "device_seconds": 2.0,
        "folder": Path("trials") / trial_id,
        "reason": None,
        "values": {"distortion": distortion, "perception": 0.1, "cosine": cosine},
    }
    return TrialRecord(**{**facts, **changes})


def many(seed):
    draw = random.Random(seed)
    return [record(f"t{i}", draw.choice([16, 36]), draw.randrange(6) / 10, draw.randrange(6) / 10) for i in range(40)]


def baselines(tokens, **values):
    """One baseline for each keyword, with this distortion."""
    return [
        record(f"{name}{tokens}", tokens, value, kind=Kind.BASELINE, name=name, params={}, folder=None)
        for name, value in values.items()
    ]


def finalists(of, *values, **more):
    """One finalist of the trial `of` for each distortion, measured on the test pictures too."""
    tested = dict.fromkeys(TESTED, 0.25)
    return [
        record(
            f"{of}-{i}",
            16,
            value,
            kind=Kind.FINALIST,
            finalist_of=of,
            values={**record("x", 16, value).values, **tested, "test_distortion": value, **more},
        )
        for i, value in enumerate(values)
    ]
