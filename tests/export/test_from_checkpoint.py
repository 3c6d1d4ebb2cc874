"""From a training's checkpoint to a compressor, and what the command refuses."""

import pytest
import torch

from tests.running import toconv_command
from toconv import config
from toconv.errors import CheckpointError
from toconv.evaluation.metrics import MATCHED
from toconv.export.from_checkpoint import encoder_facts, from_checkpoint
from toconv.models.families import match
from toconv.paths import TrialPaths
from toconv.settings import OF_THIS_MACHINE
from toconv.tokens.encoder_weights import weights_identity
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training.loop import Training
from toconv.training.resumable import ResumableTraining


@pytest.fixture(params=["pool", "pca", "linear"])
def trained(settings, tmp_path, request):
    compressor = settings.model.compressor.model_copy(update={"init": request.param})
    settings = settings.model_copy(update={"model": settings.model.model_copy(update={"compressor": compressor})})
    training = Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))
    paths = TrialPaths(tmp_path / "trial")
    list(ResumableTraining(training, paths).epochs())
    return training, paths


def test_a_checkpoint_compresses_raw_tokens_as_its_training_did_standardised_ones(trained):
    training, paths = trained
    raw = training.store.read("val", torch.arange(4)).float()
    mean, std = training.store.mean_C, training.store.std_C
    for path in (paths.folder, paths.latest):
        made, settings = from_checkpoint(path)
        theirs, ours = (s.model_dump(exclude=OF_THIS_MACHINE) for s in (settings, training.settings))
        assert theirs == ours and not made.training
        with torch.no_grad():
            z = training.compressor((raw - mean) / std)
            torch.testing.assert_close(made(raw), z * std + mean)
            torch.testing.assert_close(made.decompress(made(raw)), training.decoder(z) * std + mean)


def test_a_compressor_that_was_to_match_convs_cost_travels_with_the_width_that_it_came_to(tiny, tmp_path):
    asked = {"kind": "merger", "match": "parameters", "width": 16, "output_grid_size": 4}
    given = {f"model.compressor.{key}": value for key, value in asked.items()}
    settings = config.compose(tiny, given, {"training.epochs": 1})
    training = Training(settings, TokenStore(prepare_store(settings)), torch.device("cpu"))
    paths = TrialPaths(tmp_path / "trial")
    (epoch,) = ResumableTraining(training, paths).epochs()
    made, _ = from_checkpoint(paths.latest)
    found = match(settings.model.compressor, 32, 6)
    assert [epoch.metrics[name] for name in MATCHED] == [*found] and "match" not in made.config["compressor"]
    assert made.config["compressor"]["width"] == made.compressor.branch[2].out_features == found.width != 16


def test_what_the_encoder_is_travels_with_it(settings):
    facts = encoder_facts(settings.encoder)
    assert facts.weights == weights_identity(settings.encoder) and facts.weights.startswith("sha256:")
    assert (facts.name, facts.layer, facts.blocks, facts.grid_size, facts.width) == ("tiny", -2, 3, 6, 32)
    assert '"layers": 3' in facts.architecture and facts.mean == settings.encoder.mean


def test_a_checkpoint_that_is_missing_or_of_another_network_is_refused(trained, tmp_path):
    from toconv import checkpoint

    _, paths = trained
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        from_checkpoint(tmp_path / "nowhere.pt")
    state = checkpoint.load(paths.latest)
    state["settings"]["model"]["compressor"]["width"] = 16
    checkpoint.save(tmp_path / "other.pt", state)
    with pytest.raises(CheckpointError, match="other.pt: does not fit this version's networks"):
        from_checkpoint(tmp_path / "other.pt")


def command(cwd, *arguments):
    return toconv_command(cwd, "export", *arguments)


@pytest.mark.slow
def test_a_wrong_request_is_refused_in_one_message(tmp_path):
    (tmp_path / "outputs" / "mine").mkdir(parents=True)
    (tmp_path / "outputs" / "mine" / "sweep.yaml").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    for arguments, said in (
        (("other", "--k", 6, "--to", "new"), "holds no sweep; there are mine"),
        (("mine", "--to", "new"), "give --k K, or --trial TRIAL"),
        (("mine", "--k", 6, "--to", "new", "--fast"), "--fast: no such option"),
        (("mine", "--k", "six", "--to", "new"), "not understood"),
        (("mine", "--k", 6), "not understood"),
        (("mine", "--k", 6, "--to", "full"), "holds something else than an earlier export"),
        (("mine", "--k", 6, "--to", "full/thesis.tex"), "is a file"),
    ):
        done = command(tmp_path, *arguments)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr
    assert {p.name for p in (tmp_path / "full").iterdir()} == {"thesis.tex"} and not (tmp_path / "new").exists()
