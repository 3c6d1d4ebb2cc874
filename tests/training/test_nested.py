"""One training for several k: what is drawn, that it resumes, what is measured at each."""

from collections import Counter

import pytest
import torch

from toconv import checkpoint, config, grid
from toconv.evaluation.metrics import by_size
from toconv.export.from_checkpoint import from_checkpoint
from toconv.models.nested import NestedCompressor, at_size
from toconv.paths import TrialPaths
from toconv.tokens.codes import linear_codes
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining

CPU, SIZES = torch.device("cpu"), [2, 3, 5]
NESTED = {"model.compressor.kind": "nested", "model.compressor.grid_sizes": SIZES, "training.batch_size": 4}


@pytest.fixture
def make(tiny):
    def training(**changes):
        settings = config.compose({**tiny, **NESTED, **{k.replace("__", "."): v for k, v in changes.items()}})
        return Training(settings, TokenStore(prepare_store(settings)), CPU)

    return training


def sizes_seen(training):
    """Of every step to the training's end, by the tokens that the decoder is given."""
    seen = []
    training.decoder.register_forward_pre_hook(
        lambda module, given: seen.append(grid.side(given[0])) if torch.is_grad_enabled() else None
    )
    list(training.epochs())
    return seen


def test_each_step_draws_its_k_by_the_seed_and_every_k_has_its_turn(make):
    drawn = {seed: sizes_seen(make(training__seed=seed, training__epochs=4)) for seed in (0, 1)}
    generator = torch.Generator().manual_seed(0)
    assert drawn[0] == [SIZES[int(torch.randint(3, (), generator=generator))] for _ in drawn[0]]
    assert drawn[0] != drawn[1] and set(Counter(drawn[0])) == set(SIZES)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss__wgan_weight": 0.0, "model__compressor__init": "pool"},
        {"model__critic__head": "grid", "model__decoder__kind": "attention"},
        {"model__critic__head": "conditional", "model__compressor__init": "pca"},
        {"loss__agreement_weight": 1.0},
    ],
    ids=["alone", "grid", "conditional", "agreement"],
)
def test_a_resumed_training_ends_with_the_same_bits(make, tmp_path, changes):
    whole, parts = TrialPaths(tmp_path / "whole"), TrialPaths(tmp_path / "parts")
    list(ResumableTraining(make(**changes), whole).epochs())
    next(ResumableTraining.adopt(make(**changes), parts).epochs())
    list(ResumableTraining.adopt(make(**changes), parts).epochs())
    one, other = (checkpoint.load(paths.latest) for paths in (whole, parts))
    assert [row["metrics"] for row in one["epochs"]] == [row["metrics"] for row in other["epochs"]]
    for state in (one, other):
        del state["settings"], state["epochs"]
    assert checkpoint.checksum(one) == checkpoint.checksum(other)


def test_it_starts_at_the_distortion_of_the_linear_code_of_every_k(make):
    training = make()
    x = torch.cat(list(training.evaluation.held_out["val"]))
    for k in SIZES:
        code, z = linear_codes(training.store, k, CPU).linear, at_size(training.compressor, k)(x)
        torch.testing.assert_close(z, code.compress(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(training.decoder(z), code.decompress(z), rtol=1e-4, atol=1e-4)


def test_what_is_measured_at_each_k_is_what_a_compressor_fixed_at_it_has(make):
    training = make(training__test=True, loss__wgan_weight=0.0)
    *_, last = training.epochs()
    found, own = by_size(last.metrics), {k: v for k, v in last.metrics.items() if not k.startswith("k")}
    assert set(found) == {2, 5} and found[2].keys() == found[5].keys()
    for k, values in {**found, 3: own}.items():
        fixed, decoder = _fixed(training, k)
        with torch.inference_mode():
            expected = training.evaluation.final(fixed, decoder, k, True)
        assert {name: values[name] for name in expected} == pytest.approx(expected)


def _fixed(training, k):
    """The same weights as a compressor and a decoder that know no k but this one."""
    asked = training.settings.model.compressor
    made = NestedCompressor(32, 6, asked.model_copy(update={"grid_sizes": (k,), "output_grid_size": k}))
    held = training.compressor.state_dict()
    made.load_state_dict({name: held[name] for name in made.state_dict()})
    return made, training.decoder.of_size[str(k)]


def test_training_improves_every_k(make):
    training = make(loss__wgan_weight=0.0, training__epochs=6)
    x = torch.cat(list(training.train))

    def distortions():
        with torch.no_grad():
            ys = (training.decoder(at_size(training.compressor, k)(x)) for k in SIZES)
            return [float((x - y).square().sum() / x.square().sum()) for y in ys]

    before = distortions()
    list(training.epochs())
    assert all(after < start for after, start in zip(distortions(), before, strict=True))


def test_an_export_serves_every_k_with_the_trained_weights(make, tmp_path):
    training, paths = make(), TrialPaths(tmp_path / "run")
    list(ResumableTraining(training, paths).epochs())
    usable, settings = from_checkpoint(paths.latest)
    usable.save_pretrained(tmp_path / "export")
    loaded = type(usable).from_pretrained(tmp_path / "export")
    x = training.store.read("val", torch.arange(2)).float()
    standard = loaded.standardised(x)
    for k in SIZES:
        z = at_size(training.compressor, k)(standard)
        torch.testing.assert_close(loaded.standardised(loaded(x, k=k)), z, rtol=1e-4, atol=1e-4)
        back = loaded.standardised(loaded.decompress(loaded(x, k=k)))
        torch.testing.assert_close(back, training.decoder(z), rtol=1e-3, atol=1e-3)
    assert loaded.sizes == settings.model.compressor.grid_sizes or list(loaded.sizes) == SIZES
    assert torch.equal(loaded(x), loaded(x, k=3))
