"""A batch in parts against the whole batch, and both against one loss that autograd differentiates at once."""

import pytest
import torch

from toconv import config
from toconv.errors import out_of_memory
from toconv.settings import COMPRESSORS, NESTED
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training import losses
from toconv.training.loop import Training

CPU = torch.device("cpu")
IMAGES = 8
VARIANTS = [
    {},
    {"model.critic.head": "grid"},
    {"model.critic.head": "conditional"},
    {"model.critic.pairs": "independent"},
    {"loss.penalty": "r1"},
    {"loss.penalty": "r2"},
    {"loss.penalty": "one_sided"},
    {"loss.balance": "gradient_norm"},
    {"loss.balance": "gradient_norm", "model.critic.head": "grid", "loss.agreement_weight": 0.5},
    {"loss.wgan_weight": 0.0},
    {"model.decoder.kind": "attention"},
    *({"model.compressor.kind": kind} for kind in COMPRESSORS if kind not in ("conv", NESTED)),
    {"model.compressor.kind": NESTED, "model.compressor.grid_sizes": [2, 3]},
]


@pytest.fixture
def make(tiny, shared):
    tiny["data.tokens_dir"] = str(shared / "tokens")  # read by all tests here, written once

    def training(**changes):
        asked = {"training.n_critic": 2, "loss.wgan_weight": 0.3, "loss.ae_weight": 0.7, "loss.log_ratio": None}
        settings = config.compose({**tiny, **asked, **changes})
        made = Training(settings, TokenStore(prepare_store(settings)), CPU)
        torch.manual_seed(0)
        for parameter in [*made.compressor.parameters(), *made.decoder.parameters()]:
            torch.nn.init.normal_(parameter, std=0.1)  # branches that end in zeros give the rest no gradient
        return made

    return training


def first_batch(training):
    images_B, x_BNC = next(training.train.shuffled(torch.Generator().manual_seed(0)))
    assert len(images_B) == IMAGES
    return x_BNC.clone(), images_B


def gradients(*networks):
    return [p.grad for network in networks for p in network.parameters()]


def at_once(training, x_BNC, images_B):
    """Gradients of compressor and decoder by L_total, written as its formula."""
    loss, k = training.settings.loss, training._drawn_size()
    z_BMC = training.compressor(x_BNC, k=k) if len(training.sizes) > 1 else training.compressor(x_BNC)
    ae = losses.reconstruction_loss(x_BNC, training.decoder(z_BMC), training.coverage_N[k])
    l_ae, l_gen, balance = ae.mse + ae.cosine, torch.zeros(()), 1.0
    if loss.wgan_weight > 0:
        means_BMC = None
        if training.settings.model.critic.head == "conditional":
            means_BMC = torch.nn.functional.adaptive_avg_pool2d(x_BNC.transpose(1, 2).unflatten(2, (6, 6)), k)
            means_BMC = means_BMC.flatten(2).transpose(1, 2)
        l_gen = -training.critic(z_BMC, means_BMC).mean()
    if loss.balance == "gradient_norm":
        (a,), (b,) = (torch.autograd.grad(value, z_BMC, retain_graph=True) for value in (l_ae, l_gen))
        balance = a.norm() / b.norm()
    l_total = loss.wgan_weight * balance * l_gen + loss.ae_weight * l_ae
    if loss.agreement_weight:
        l_total = l_total + loss.agreement_weight * training.agreement(z_BMC, images_B)
    parameters = [*training.compressor.parameters(), *training.decoder.parameters()]
    found = torch.autograd.grad(l_total, parameters, allow_unused=True)
    return found, torch.stack([l_total, l_gen, ae.mse, ae.cosine]).detach()


def same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-6 * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_divided_batch_has_the_gradients_and_losses_of_the_whole_one_and_both_those_of_the_formula(make, changes):
    whole, divided, plain = make(**changes), make(**changes, **{"training.micro_batch": 3}), make(**changes)
    batch = first_batch(whole)
    for training in (whole, divided):
        training.critic_optimizer.step = training.optimizer.step = training.schedule.step = lambda: None
        training.found = training.step(*batch)
    assert list(divided.micro_batches.parts(IMAGES)) == [slice(0, 3), slice(3, 6), slice(6, 8)]
    torch.testing.assert_close(divided.found, whole.found, rtol=1e-4, atol=1e-5)
    expected, values = at_once(plain, *batch)
    torch.testing.assert_close(whole.found[:4], values, rtol=1e-5, atol=1e-6)
    for training in (whole, divided):
        same(gradients(training.compressor, training.decoder), expected)
    same(gradients(divided.critic), gradients(whole.critic))


def test_divided_steps_lead_where_whole_ones_do(make):
    whole, divided = make(), make(**{"training.micro_batch": 1})
    batch = first_batch(whole)
    for _ in range(4):
        torch.testing.assert_close(divided.step(*batch), whole.step(*batch), rtol=1e-3, atol=1e-4)
    assert torch.equal(divided.draws.get_state(), whole.draws.get_state())
    assert divided.schedule.last_epoch == whole.schedule.last_epoch == 4


def refuse_above(module, rows):
    """As CUDA does in a step where memory does not hold so many rows."""

    def check(_, arguments):
        if len(arguments[0]) > rows and not torch.is_inference_mode_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    module.register_forward_pre_hook(check)


REFUSED = {  # where, and how many rows go through: of the critic's layers those of originals and compressed tokens
    "compressor": lambda training: refuse_above(training.compressor, 2),
    "decoder": lambda training: refuse_above(training.decoder, 2),
    "critic": lambda training: refuse_above(training.critic.layers[0], 2 * 2 * 9),
}


@pytest.mark.parametrize("where", REFUSED)
def test_where_memory_runs_out_the_step_is_the_same_in_halves(make, where):
    whole, halved = make(), make()
    REFUSED[where](halved)
    batch = first_batch(whole)
    torch.testing.assert_close(halved.step(*batch), whole.step(*batch), rtol=1e-4, atol=1e-5)
    assert halved.micro_batches.size == 2 and whole.micro_batches.size == IMAGES
    same(gradients(halved.compressor, halved.decoder), gradients(whole.compressor, whole.decoder))
    assert torch.equal(halved.draws.get_state(), whole.draws.get_state())


def test_memory_that_runs_out_in_the_backward_pass_halves_too(make):
    whole, halved = make(), make()
    refused = []

    def check(gradient):
        if len(gradient) > 4:
            refused.append(len(gradient))
            raise torch.OutOfMemoryError("CUDA out of memory")

    def watch(_, __, z_BMC):
        if z_BMC.requires_grad:
            z_BMC.register_hook(check)

    halved.compressor.register_forward_hook(watch)
    batch = first_batch(whole)
    torch.testing.assert_close(halved.step(*batch), whole.step(*batch), rtol=1e-4, atol=1e-5)
    assert refused == [IMAGES] and halved.micro_batches.size == 4


@pytest.mark.parametrize("asked", [None, 4])
def test_a_size_that_is_asked_for_is_kept_and_memory_that_runs_out_ends_the_training(make, asked):
    training = make(**{"training.micro_batch": asked})
    refuse_above(training.decoder, 2)
    with pytest.raises(torch.OutOfMemoryError):
        training.step(*first_batch(training))


def test_a_single_image_that_is_too_much_ends_the_training_as_out_of_memory(make):
    training = make()
    refuse_above(training.decoder, 0)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        training.step(*first_batch(training))
    assert out_of_memory(caught.value) and training.micro_batches.size == 1


def test_another_error_is_no_reason_to_halve(make):
    training = make()
    training.decoder.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.step(*first_batch(training))
    assert training.micro_batches.size == IMAGES


def test_all_parts_of_a_batch_are_its_precision(make):
    training = make(**{"hardware.mixed_precision": True, "training.micro_batch": 3})
    seen = []
    training.decoder.branch[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    training.compressor.branch[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    training.step(*first_batch(training))
    assert set(seen) == {torch.bfloat16} and len(seen) == 9
