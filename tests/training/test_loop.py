"""One training: resumed bit for bit, its schedule, its critic, its failures."""

import json
import math

import pytest
import torch

from toconv import checkpoint, config
from toconv.errors import CheckpointError, TrainingFailed
from toconv.evaluation.distortion import ridge_distortion
from toconv.export.from_checkpoint import from_checkpoint
from toconv.paths import TrialPaths
from toconv.settings import COMPRESSORS, NESTED
from toconv.tokens.codes import linear_codes
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.epochs import read_epochs
from toconv.training.identity import trial_id
from toconv.training.loop import Training, cosine_with_warmup
from toconv.training.resumable import ResumableTraining, epoch_checkpoints

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make(tiny, tmp_path):
    def training(**changes):
        settings = config.compose({**tiny, **{k.replace("__", "."): v for k, v in changes.items()}})
        return Training(settings, TokenStore(prepare_store(settings)), CPU)

    return training


def first_batch(training):
    images_B, x_BNC = next(training.train.shuffled(torch.Generator().manual_seed(0)))
    return x_BNC, images_B


def numbers(epochs):
    return [epoch.metrics for epoch in epochs]


@pytest.mark.parametrize("stopped_after", [1, 2])
@pytest.mark.parametrize("kind", ["conv", "attention"])
def test_a_resumed_training_ends_with_the_same_bits(make, tmp_path, stopped_after, kind):
    whole = ResumableTraining(make(model__decoder__kind=kind), TrialPaths(tmp_path / "whole"))
    list(whole.epochs())
    paths = TrialPaths(tmp_path / "parts")
    first = ResumableTraining.adopt(make(model__decoder__kind=kind), paths).epochs()
    for _ in range(stopped_after):
        next(first)
    second = ResumableTraining.adopt(make(model__decoder__kind=kind), paths)
    assert len(list(second.epochs())) == 3 - stopped_after
    assert numbers(read_epochs(paths.metrics)) == numbers(read_epochs(TrialPaths(tmp_path / "whole").metrics))
    one, other = (checkpoint.load(TrialPaths(tmp_path / name).latest) for name in ("whole", "parts"))
    for state in (one, other):
        del state["settings"], state["epochs"]  # these know folders and the time of day
    assert checkpoint.checksum(one) == checkpoint.checksum(other)


def test_epochs_beyond_the_checkpoint_are_dropped_and_no_epoch_is_told_twice(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    epochs = ResumableTraining.adopt(make(), paths).epochs()
    next(epochs)
    with paths.metrics.open("a") as file:
        file.write(json.dumps({"epoch": 2, "timestamp": 0, "seconds": 0.0, "metrics": {}}) + "\n" + '{"epoch": 3, "tor')
    list(ResumableTraining.adopt(make(), paths).epochs())
    assert [epoch.epoch for epoch in read_epochs(paths.metrics)] == [1, 2, 3]
    assert all(numbers(read_epochs(paths.metrics)))


def test_an_epoch_that_has_its_checkpoint_is_told_even_if_its_line_was_never_written(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    epochs = ResumableTraining.adopt(make(), paths).epochs()
    next(epochs), next(epochs)
    whole = read_epochs(paths.metrics)
    paths.metrics.write_text(paths.metrics.read_text().splitlines()[0])  # killed between the two writes
    again = ResumableTraining.adopt(make(), paths)
    assert again.training.epoch == 2 and read_epochs(paths.metrics) == again.done == whole


def test_a_damaged_latest_checkpoint_is_replaced_by_the_one_before(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    epochs = ResumableTraining.adopt(make(training__checkpoint_every=1), paths).epochs()
    next(epochs), next(epochs)
    paths.latest.write_bytes(paths.epoch(1).read_bytes()[:-100])
    paths.epoch(2).unlink()
    again = ResumableTraining.adopt(make(training__checkpoint_every=1), paths)
    assert again.training.epoch == 1 and "latest.pt" in again.notes[0]
    list(again.epochs())
    assert [epoch.epoch for epoch in read_epochs(paths.metrics)] == [1, 2, 3]


def test_checkpoints_are_named_kept_and_dropped_as_asked(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    resumable = ResumableTraining(
        make(training__epochs=5, training__checkpoint_every=2, training__keep_last_n=2), paths
    )
    epochs = list(resumable.epochs())
    assert [p.name for p in epoch_checkpoints(paths)] == ["checkpoint_epoch_4.pt", "checkpoint_epoch_5.pt"]
    assert checkpoint.load(paths.latest)["epoch"] == 5
    best = min(epochs, key=lambda epoch: epoch.metrics["distortion"])
    assert checkpoint.load(paths.best)["epoch"] == best.epoch


@pytest.mark.parametrize(
    "changes",
    [
        {"model__critic__head": "grid"},
        {"model__critic__head": "conditional"},
        {"model__critic__pairs": "independent"},
        {"loss__penalty": "one_sided"},
        {"loss__penalty": "r1"},
        {"loss__penalty": "r2"},
        {"loss__balance": "gradient_norm"},
        {"loss__log_ratio": -1.0},
    ],
)
def test_every_kind_of_critic_trains_and_tells_what_it_does(make, changes):
    training = make(training__epochs=1, **changes)
    before = [p.clone() for p in training.critic.parameters()]
    (result,) = training.epochs()
    assert all(not torch.equal(a, b) for a, b in zip(before, training.critic.parameters(), strict=True) if a.ndim > 1)
    assert all(math.isfinite(v) for v in result.metrics.values())
    assert result.metrics["gradient_norm"] > 0 and result.metrics["critic_gradient_norm"] > 0
    assert (result.metrics["balance"] != 1) == ("loss__balance" in changes)


@pytest.mark.parametrize("kind", [kind for kind in COMPRESSORS if kind != "conv"])
def test_every_family_of_compressors_trains_and_goes_on_with_the_same_bits(make, tmp_path, kind):
    given = {"model__compressor__kind": kind, "model__compressor__output_grid_size": 4, "training__epochs": 2}
    given |= {"model__compressor__grid_sizes": [2, 4]} if kind == NESTED else {}
    paths = TrialPaths(tmp_path / "run")
    whole = [epoch.metrics for epoch in make(**given).epochs()]
    next(ResumableTraining.adopt(make(**given), paths).epochs())
    assert numbers(ResumableTraining.adopt(make(**given), paths).epochs()) == whole[1:]
    assert whole[1]["L_total"] < whole[0]["L_total"] and whole[1]["compressor_parameters"] > 0


def test_a_log_ratio_is_a_weight_in_another_unit(make):
    one = make(loss__wgan_weight=0.02, loss__ae_weight=2.0)
    other = make(loss__wgan_weight=7.0, loss__ae_weight=2.0, loss__log_ratio=-2.0)
    batch = first_batch(one)
    torch.testing.assert_close(one.step(*batch), other.step(*batch))


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_a_training_works_at_every_k_and_improves_on_where_it_starts(make, k):
    training = make(model__compressor__output_grid_size=k, loss__wgan_weight=0.0)

    def distortion():
        x = torch.cat(list(training.train))
        with torch.no_grad():
            return (x - training.decoder(training.compressor(x))).square().sum() / x.square().sum()

    before = distortion()
    list(training.epochs())
    assert distortion() < before


@pytest.mark.parametrize("kind", ["conv", "attention"])
@pytest.mark.parametrize("k", [3, 4])
@pytest.mark.parametrize("init", ["pca", "linear"])
def test_a_compressor_that_starts_at_a_linear_code_starts_at_its_distortion_and_keeps_it(make, tmp_path, kind, k, init):
    changes = {"model__compressor__init": init, "model__decoder__kind": kind, "model__compressor__output_grid_size": k}
    training = make(**changes)
    code = getattr(linear_codes(training.store, k, CPU), init)
    x = torch.cat(list(training.evaluation.held_out["val"]))
    torch.testing.assert_close(training.compressor(x), code.compress(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        training.decoder(training.compressor(x)), code.decompress(code.compress(x)), rtol=1e-4, atol=1e-4
    )
    before = training.compressor.code.weight_CD.clone()
    paths = TrialPaths(tmp_path / "run")
    list(ResumableTraining(training, paths).epochs())
    torch.testing.assert_close(training.compressor.code.weight_CD, before)
    usable, _ = from_checkpoint(paths.latest)
    torch.testing.assert_close(usable.compressor(x), training.compressor(x))


def test_the_linear_codes_are_fitted_once_a_store_and_anew_where_it_is_damaged(make):
    training = make(model__compressor__init="pca")
    (path,) = training.store.derived.glob("codes-k3-*.pt")
    written = path.stat().st_mtime_ns
    make(model__compressor__init="pca")
    assert path.stat().st_mtime_ns == written
    path.write_bytes(path.read_bytes()[:-50])
    again = make(model__compressor__init="pca")
    torch.testing.assert_close(again.compressor.code.weight_CD, training.compressor.code.weight_CD)


def test_the_critic_learns_and_the_generator_step_leaves_it_alone(make):
    training = make(loss__wgan_weight=0.1)
    batch = first_batch(training)
    before = [p.clone() for p in training.critic.parameters()]
    training.step(*batch)
    assert any(not torch.equal(a, b) for a, b in zip(before, training.critic.parameters(), strict=True))
    training._critic_steps = lambda *_: (torch.zeros(()),) * 4
    before = [p.clone() for p in training.critic.parameters()]
    training.step(*batch)
    assert all(torch.equal(a, b) for a, b in zip(before, training.critic.parameters(), strict=True))


def test_without_weight_the_critic_costs_nothing(make):
    training = make(loss__wgan_weight=0.0)
    before = training.critic.state_dict()
    before = {key: value.clone() for key, value in before.items()}
    training.step(*first_batch(training))
    assert all(torch.equal(before[key], value) for key, value in training.critic.state_dict().items())


def test_mixed_precision_keeps_critic_and_penalty_in_fp32(make):
    training = make(hardware__mixed_precision=True)
    seen = []
    training.critic.register_forward_pre_hook(lambda _, args: seen.append(args[0].dtype))
    training.compressor.branch[0].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    training.step(*first_batch(training))
    assert seen[0] == torch.bfloat16 and set(seen[1:]) == {torch.float32}


@pytest.mark.parametrize("bf16", [False, True])
def test_a_training_ends_with_the_common_decoders_distortion(make, bf16):
    training = make(hardware__mixed_precision=bf16, loss__wgan_weight=0.0)
    *_, last = training.epochs()
    reference = ridge_distortion(training.compressor, training.train, [training.evaluation.held_out["val"]], 6, 3)[0]
    assert last.metrics["distortion_ridge"] == pytest.approx(reference, rel=0.02 if bf16 else 1e-5)


def test_a_loss_that_is_not_finite_ends_the_training(make):
    training = make(training__learning_rate=1.0, training__log_every=1)
    for parameter in training.compressor.parameters():
        torch.nn.init.constant_(parameter, math.nan)
    with pytest.raises(TrainingFailed, match="epoch 1, steps 1 to 1: L_total=nan"):
        list(training.epochs())


def test_the_schedule_warms_up_and_falls_along_a_cosine():
    factor = cosine_with_warmup(100, 0.1)
    assert [factor(s) for s in range(10)] == pytest.approx([(s + 1) / 11 for s in range(10)])
    assert factor(10) == 1 and factor(55) == pytest.approx(0.5) and factor(100) == pytest.approx(0)


def test_a_trial_is_named_by_what_decides_its_numbers_and_nothing_else(tiny):
    def name(tokens="t", **changes):
        return trial_id(config.compose({**tiny, **{k.replace("__", "."): v for k, v in changes.items()}}), tokens)

    same = [name(), name(training__keep_last_n=7), name(experiment__name="other"), name(data__workers=1)]
    assert len(set(same)) == 1
    others = [name("u"), name(loss__lambda_gp=9.0), name(training__seed=1), name(model__critic__width=16)]
    assert len({*same, *others}) == 5


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "missing"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"weights": torch.zeros(1000), "epoch": 3})
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    {
        "truncated": lambda: path.write_bytes(content[:-50]),
        "flipped": lambda: path.write_bytes(content),
        "foreign": lambda: torch.save({"weights": torch.zeros(1)}, path),
        "missing": path.unlink,
    }[damage]()
    with pytest.raises(CheckpointError, match="a.pt"):
        checkpoint.load(path)


def test_a_checkpoint_of_other_tokens_is_refused(make, tmp_path):
    paths = TrialPaths(tmp_path / "run")
    next(ResumableTraining(make(), paths).epochs())
    with pytest.raises(CheckpointError, match="trained on tokens [0-9a-f]{16}, but these are [0-9a-f]{16}"):
        ResumableTraining(make(data__seed=5), paths, resume=paths.latest)


def test_what_a_machine_decides_is_stated(make):
    assert make(training__micro_batch=3).stated == (
        "fp32; not compiled (steps become slower on a CPU); batches of 8 images, 3 at a time; "
        "tokens are read batch by batch"
    )
    stated = make(hardware__mixed_precision=True).stated
    assert stated.startswith("bf16, critic and losses in fp32;") and "in halves where memory runs out" in stated
