"""A compressor that a researcher can use: from a checkpoint and pictures to tokens and a map."""

import subprocess
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from toconv.compress import TrainedCompressor
from toconv.durable import DurableTraining
from toconv.errors import CheckpointError
from toconv.paths import REPOSITORY, TrialPaths
from toconv.tokens.encoder import load_encoder
from toconv.tokens.images import Picture, crops
from toconv.tokens.store import TokenStore, prepare_store
from toconv.training import Training

CPU = torch.device("cpu")


@pytest.fixture
def trained(settings, tmp_path):
    training = Training(settings, TokenStore(prepare_store(settings)), CPU)
    paths = TrialPaths(tmp_path / "trial")
    list(DurableTraining(training, paths).epochs())
    return training, paths


def command(cwd, *arguments):
    return subprocess.run([sys.executable, "-m", "toconv.compress", *map(str, arguments)], capture_output=True,
                          text=True, cwd=cwd, env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"})


def test_a_checkpoint_compresses_raw_tokens_as_its_training_did_standardised_ones(trained):
    training, paths = trained
    usable = TrainedCompressor(paths.latest, CPU)
    raw = training.store.read("val", torch.arange(4)).float()
    mean, std = training.store.mean_C, training.store.std_C
    with torch.no_grad():
        z = training.compressor((raw - mean) / std)
        torch.testing.assert_close(usable.compress(raw), z * std + mean)
        torch.testing.assert_close(usable.decompress(usable.compress(raw)), training.decoder(z) * std + mean)


def test_pictures_become_tokens_and_a_map(trained, photographs, settings, tmp_path):
    _, paths = trained
    picture = sorted(photographs.iterdir())[0]
    done = command(tmp_path, picture, "--checkpoint", paths.folder, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "36 -> 9 tokens by tiny" in done.stdout
    found = load_file(tmp_path / "out" / f"{picture.stem}.safetensors")
    pixels = crops(Picture("", picture), settings.data.model_copy(update={"crops": 1}), settings.encoder)
    tokens, class_token = load_encoder(settings.encoder, CPU)(pixels)
    torch.testing.assert_close(found["tokens"], TrainedCompressor(paths.latest, CPU).compress(tokens)[0])
    torch.testing.assert_close(found["class_token"], class_token[0])
    assert Image.open(tmp_path / "out" / f"{picture.stem}.png").size[0] > 500


def test_the_map_says_where_the_error_is(trained):
    training, paths = trained
    usable = TrainedCompressor(paths.latest, CPU)
    raw = training.store.read("val", torch.arange(2)).float()
    by_hand = ((raw - usable.decompress(usable.compress(raw))) / training.store.std_C).square().mean(-1)
    by_hand = by_hand / ((raw - training.store.mean_C) / training.store.std_C).square().mean()
    torch.testing.assert_close(usable.unrecovered(raw).flatten(1), by_hand)


def test_what_cannot_be_done_is_refused_in_one_message(trained, tmp_path):
    _, paths = trained
    done = command(tmp_path, "nowhere.jpg", "other.jpg", "--checkpoint", paths.folder, "--fast")
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("nowhere.jpg", "other.jpg", "--fast"))
    assert "Traceback" not in done.stderr
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        TrainedCompressor(tmp_path / "latest.pt", CPU)
