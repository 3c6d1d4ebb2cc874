"""A step that is prepared for a CUDA graph, as far as a machine without CUDA shows it: it is the training's own step,
from wherever the training stands. Capture and replay themselves were not run."""

from copy import deepcopy

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from toconv import config
from toconv.errors import RequestError
from toconv.hardware import Choice, graph_choice
from toconv.settings import NESTED
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training, cosine_with_warmup
from toconv.training.optimizers import AdamW, portable_state, rates_on_gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def make(tiny, shared):
    tiny["data.tokens_dir"] = str(shared / "tokens")

    def training(captured=False, **changes):
        settings = config.compose({**tiny, **{key.replace("__", "."): value for key, value in changes.items()}})
        made = Training(settings, TokenStore(prepare_store(settings)), CPU)
        made._graph = Choice(captured, "in a test")  # refused on a CPU where a user asks for it
        return made

    return training


def weights(training):
    return [*training.compressor.parameters(), *training.decoder.parameters(), *training.critic.parameters()]


@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_captured_step_goes_on_from_where_the_training_stands(make, steps_before):
    plain, other = make(), make()
    images_B, x_BNC = next(plain.train.shuffled(torch.Generator()))
    for training in (plain, other):
        for _ in range(steps_before):
            training.step(x_BNC, images_B)
    captured, batches = other.captured(x_BNC, images_B), [*plain.train.shuffled(torch.Generator().manual_seed(1))][:3]
    for images_B, x_BNC in batches:
        torch.testing.assert_close(captured(x_BNC, images_B), plain.step(x_BNC, images_B), rtol=0, atol=0)
    assert torch.equal(other.draws.get_state(), plain.draws.get_state())
    assert other.schedule.last_epoch == plain.schedule.last_epoch == steps_before + 3
    torch.testing.assert_close(weights(other), weights(plain), rtol=0, atol=0)


def test_a_training_of_captured_steps_is_the_same_one_and_resumes_as_one(make):
    sizes = {"training__batch_size": 5, "training__epochs": 3}  # the last batch of an epoch is smaller
    plain, captured, resumed = make(**sizes), make(True, **sizes), make(True, **sizes)
    assert plain.train.images % 5 and plain.train.images > 5
    expected = [epoch.metrics for epoch in plain.epochs()]
    whole = captured.epochs()
    found = [next(whole).metrics]
    resumed.load_state_dict(deepcopy(captured.state_dict()))  # else both would hold the same moments
    assert [*found, *(epoch.metrics for epoch in whole)] == expected
    assert [epoch.metrics for epoch in resumed.epochs()] == expected[1:]
    assert captured._captured is not None and plain._captured is None


def test_rates_on_a_gpu_are_tensors_that_the_schedule_fills_and_no_checkpoint_holds():
    optimizer = AdamW([torch.nn.Parameter(torch.ones(2))], 0.5, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine_with_warmup(8, 0.5))
    first = optimizer.param_groups[0]["lr"]
    rates_on_gpu(optimizer, CPU)
    assert optimizer.param_groups[0]["lr"] is first
    with FakeTensorMode():
        rates_on_gpu(optimizer, CUDA)
        rate = optimizer.param_groups[0]["lr"]
        assert isinstance(rate, FakeTensor) and rate.device == CUDA and rate.dtype == torch.float32
        optimizer.step()
        schedule.step()
        assert optimizer.param_groups[0]["lr"] is rate
    optimizer.param_groups[0]["lr"] = torch.tensor(0.25)  # on a host, where a number can be read
    (group,) = portable_state(optimizer)["param_groups"]
    assert group["lr"] == 0.25 and isinstance(group["lr"], float) and group["capturable"] is False
    assert optimizer.param_groups[0]["capturable"] is True


def test_a_graph_is_refused_where_a_step_is_not_the_same_each_time_and_without_cuda(tiny):
    asked = {"hardware.cuda_graph": True}
    with pytest.raises(RequestError, match="hardware.cuda_graph=true: needs a CUDA device"):
        graph_choice(config.compose({**tiny, **asked}), CPU)
    assert not graph_choice(config.compose(tiny), CUDA).taken
    assert graph_choice(config.compose({**tiny, **asked}), CUDA).taken
    nested = {"model.compressor.kind": NESTED, "model.compressor.grid_sizes": [2, 3]}
    for changes, why in (
        (nested, "kind=nested draws its k in each"),
        ({"loss.agreement_weight": 0.5}, "loss.agreement_weight=0.5 reads what belongs to the images of each"),
    ):
        with pytest.raises(RequestError, match=f"hardware.cuda_graph=true: .*{why}"):
            config.compose({**tiny, **asked, **changes})
