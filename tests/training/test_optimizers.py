"""The optimizers against torch's own."""

import subprocess
import sys
from copy import deepcopy

import pytest
import torch

from tests.repository import REPOSITORY
from toconv.training import optimizers

STEP = """
import sys, tempfile
from pathlib import Path
import torch
from benchmarks.synthetic import synthetic_store
from toconv.config import compose
from toconv.training.loop import Training
with tempfile.TemporaryDirectory() as folder:
    store = synthetic_store(Path(folder, "store"), 4, 16)
    training = Training(compose({"training.batch_size": 4}), store, torch.device("cpu"))
    images_B, x_BNC = next(training.train.shuffled(training.shuffle))
    training.step(x_BNC, images_B)
    training.load_state_dict(training.state_dict())
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("name", ["Adam", "AdamW"])
def test_an_optimizer_moves_weights_as_torchs_does_and_reads_its_state(name):
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    weights = [torch.nn.Parameter(start.clone()) for _ in range(2)]
    ours, theirs = (
        getattr(module, name)([{"params": [w]}], 0.01, (0.5, 0.9), weight_decay=0.1, fused=True)
        for module, w in zip((optimizers, torch.optim), weights, strict=True)
    )
    for step in range(6):
        for weight, optimizer in zip(weights, (ours, theirs), strict=True):
            optimizer.zero_grad(set_to_none=True)
            assert weight.grad is None
            (weight - step).pow(2).sum().backward()
            optimizer.step()
        assert torch.equal(*weights) and not torch.equal(weights[0], start)
        if step == 2:
            ours.load_state_dict(deepcopy(theirs.state_dict()))  # else both would hold the same moments
            theirs.load_state_dict(deepcopy(ours.state_dict()))
    assert weights[0].requires_grad and ours.state[weights[0]]["exp_avg"].requires_grad is False


@pytest.mark.slow
def test_a_step_and_its_state_are_made_without_importing_torchs_compiler():
    found = subprocess.run([sys.executable, "-c", STEP], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
