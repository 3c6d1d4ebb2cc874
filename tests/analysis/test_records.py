"""Labels by which people recognise a trial."""

import pytest

from tests.tracking.test_mlflow_runs import record
from toconv.analysis.records import label


@pytest.mark.parametrize(
    "params, expected",
    [
        (
            {
                "model.compressor.output_grid_size": 6,
                "loss.lambda_gp": 3.2,
                "training.n_critic": 5,
                "loss.wgan_weight": 0.04,
            },
            "k=6 λ=3.2 n=5 w=0.04",
        ),
        ({"loss.lambda_gp": 31.6227766, "training.learning_rate": 1e-3}, "λ=31.6 learning_rate=0.001"),
        ({"model.decoder.kind": "attention", "loss.log_ratio": None}, "kind=attention log_ratio=None"),
        ({"model.compressor.width": 8, "model.decoder.width": 16}, "compressor.width=8 decoder.width=16"),
        ({"training.seed": 2, "training.test": True}, "seed=2"),
        ({}, ""),
    ],
)
def test_a_label_has_symbols_for_what_every_sweep_has_and_the_end_of_other_names(params, expected):
    assert label(params) == expected


def test_a_baseline_is_called_by_its_name_and_its_k():
    assert record(None, kind="baseline", name="pool").label == "pool k=2"
