"""The steps that the benchmark writes itself, against the training's own."""

import pytest
import torch

from benchmarks.gpu import curves
from benchmarks.gpu.lab import Lab
from benchmarks.gpu.scale import TINY
from benchmarks.gpu.stacked import StackedStep
from benchmarks.products import HostReads
from toconv.evaluation.metrics import DIAGNOSTICS


@pytest.fixture
def lab(tmp_path):
    return Lab(TINY, torch.device("cpu"), tmp_path)


def weights(training):
    return [*training.compressor.parameters(), *training.decoder.parameters(), *training.critic.parameters()]


def test_stacked_trainings_take_the_steps_of_one(lab):
    plain, lender = lab.training(TINY.small), lab.training(TINY.small)
    x_BNC, images_B = lab.batch(plain, TINY.small.batch)
    stacked = StackedStep(lender, 1)
    for rate in (plain.optimizer, plain.critic_optimizer):
        rate.param_groups[0]["lr"] = 1e-4
    for rate in (stacked._optimizer, stacked._critic_optimizer):
        rate.param_groups[0]["lr"] = 1e-4
    place = [*DIAGNOSTICS].index("L_total")
    plain.schedule.step = lambda: None
    for _ in range(2):
        torch.testing.assert_close(
            stacked(x_BNC, images_B)[0], plain.step(x_BNC, images_B)[place], rtol=1e-5, atol=1e-6
        )
    ours = [*stacked._weights.values(), *stacked._critic_weights.values()]
    pairs = [*zip(ours, weights(plain), strict=True)]
    for one, other in pairs[:-1]:  # the critic's last bias cancels out of its loss
        torch.testing.assert_close(one[0], other, rtol=1e-4, atol=1e-5)


def test_several_stacked_trainings_part_by_their_draws_alone(lab):
    training = lab.training(TINY.small, loss__wgan_weight=1.0)
    x_BNC, images_B = lab.batch(training, TINY.small.batch)
    stacked = StackedStep(training, 3)
    first, *_, last = (stacked(x_BNC, images_B) for _ in range(3))
    assert last.shape == (3,) and len(set(last.tolist())) == 3
    torch.testing.assert_close(last, last[:1].expand(3), rtol=0.05, atol=0.01)
    assert (last < first).all()


def test_a_step_reads_no_number_back(lab):
    training = lab.training(TINY.small)
    x_BNC, images_B = lab.batch(training, TINY.small.batch)
    training.step(x_BNC, images_B)  # what is computed once reads numbers
    with HostReads() as seen:
        out = training.step(x_BNC, images_B)
        assert seen.reads == 0 and seen.operators > 100
        out[0].item()
    assert seen.reads == 1


def test_losses_of_steps_that_are_prepared_for_a_graph_are_on_a_cpu_those_of_plain_steps(lab):
    plain, prepared = (curves._curve(lab, curves._training(lab), is_graph=graph) for graph in (False, True))
    assert len(plain) == TINY.steps > len(lab.training(TINY.small).train)  # batches of other images follow
    torch.testing.assert_close(prepared, plain, rtol=0, atol=0)
