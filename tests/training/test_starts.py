"""Where compressed tokens start, known once a training, against what a compressor computes by itself."""

import pytest
import torch

from toconv import config
from toconv.models.families import linear_codes_of
from toconv.settings import COMPRESSORS, NESTED
from toconv.tokens.encoding import prepare_store
from toconv.tokens.store import TokenStore
from toconv.training import starts
from toconv.training.loop import Training

CPU = torch.device("cpu")
FAMILIES = [
    *({"model.compressor.kind": kind} for kind in COMPRESSORS if kind != NESTED),
    {"model.compressor.kind": NESTED, "model.compressor.grid_sizes": [2, 3]},
]


@pytest.fixture
def make(tiny, shared):
    tiny["data.tokens_dir"] = str(shared / "tokens")

    def training(**changes):
        settings = config.compose({**tiny, **changes})
        return Training(settings, TokenStore(prepare_store(settings)), CPU)

    return training


def counted(training, monkeypatch):
    """What the training's codes compress: k and how many images. With `pca` no decoder compresses too."""
    asked = []
    for code in linear_codes_of(training.compressor).values():

        def compress(x_BNC, code=code, inner=code.compress):
            asked.append((code.k, len(x_BNC)))
            return inner(x_BNC)

        monkeypatch.setattr(code, "compress", compress)
    return asked


@pytest.mark.parametrize("changes", FAMILIES, ids=str)
@pytest.mark.parametrize("init", ["linear", "pca"])
def test_a_compressor_that_is_told_where_its_tokens_start_gives_what_it_gives_by_itself(make, init, changes):
    training = make(**changes, **{"model.compressor.init": init})
    for parameter in training.compressor.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images_B, x_BNC = next(training.train.shuffled(torch.Generator().manual_seed(0)))
    for k in training.sizes:
        at = {"k": k} if len(training.sizes) > 1 else {}
        start_BMC = training.starts.at(images_B, k)
        assert start_BMC.shape == (len(images_B), k**2, training.store.width)
        told, alone = training.compressor(x_BNC, start_BMC=start_BMC, **at), training.compressor(x_BNC, **at)
        torch.testing.assert_close(told, alone, rtol=1e-5, atol=1e-5)


def test_a_code_is_asked_once_a_store_for_each_training_image_and_again_where_the_file_is_damaged(
    make, monkeypatch, tmp_path
):
    found = []
    for expected in (1, 0, 1):
        training = make(
            **{"training.epochs": 2, "model.compressor.init": "pca", "data.tokens_dir": str(tmp_path / "tokens")}
        )
        monkeypatch.setattr(training, "_evaluated", lambda measured: {"distortion": 1.0})  # other images
        asked = counted(training, monkeypatch)
        found.append([epoch.metrics for epoch in training.epochs()])
        assert sum(images for _, images in asked) == expected * training.train.images
        (file,) = training.store.derived.glob("starts-k3-*.pt")
        if expected == 0:
            damaged = bytearray(file.read_bytes())
            damaged[len(damaged) // 2] ^= 1
            file.unlink()  # which the training before still maps
            file.write_bytes(damaged)
    assert found[0] == found[1] == found[2]


def test_a_training_goes_on_from_the_starts_of_the_code_that_its_checkpoint_brings(make):
    training, other = (make(**{"model.compressor.init": "pca"}) for _ in range(2))
    images_B, x_BNC = next(training.train.shuffled(torch.Generator().manual_seed(0)))
    training.step(x_BNC, images_B)
    other.compressor.code.weight_CD.mul_(2)
    training.load_state_dict(other.state_dict())
    expected = training.compressor.code.compress(x_BNC)
    torch.testing.assert_close(training.starts.at(images_B, training.k), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mixed", [False, True])
def test_they_are_what_a_step_would_compute_in_its_precision(make, mixed):
    training = make(**{"hardware.mixed_precision": mixed})
    images_B, x_BNC = next(training.train.shuffled(torch.Generator().manual_seed(0)))
    with torch.no_grad(), training.gradients.autocast(CPU):
        expected = training.compressor.code.compress(x_BNC)
    close = 1e-2 if mixed else 1e-5
    torch.testing.assert_close(training.starts.at(images_B, training.k), expected, rtol=close, atol=close)
    names = {path.name for path in training.store.derived.glob("starts-k3-*.pt")}
    assert any("-bf16-" in name for name in names) or not mixed


def test_all_sizes_of_a_nested_compressor_count_together(make, monkeypatch):
    training = make(**FAMILIES[-1])
    one = 4 * training.train.images * training.store.width
    monkeypatch.setattr(starts, "MOST_BYTES", one * (4 + 9) - 1)
    training = make(**FAMILIES[-1])
    assert training.starts.at(torch.arange(2), 2) is None and training.starts.at(torch.arange(2), 3) is None
    monkeypatch.setattr(starts, "MOST_BYTES", one * (4 + 9))
    training = make(**FAMILIES[-1])
    assert training.starts.at(torch.arange(2), 2).shape[1] == 4


def test_what_would_take_too_much_memory_is_computed_in_every_step(make, monkeypatch):
    asks = {"model.compressor.init": "pca"}
    known = make(**asks)
    size = 4 * known.train.images * known.k**2 * known.store.width
    images_B, x_BNC = next(known.train.shuffled(torch.Generator().manual_seed(0)))
    x_BNC = x_BNC.clone()
    monkeypatch.setattr(starts, "MOST_BYTES", size)
    known = make(**asks)
    assert known.starts.at(images_B, known.k) is not None
    found = known.step(x_BNC, images_B)
    monkeypatch.setattr(starts, "MOST_BYTES", size - 1)
    small = make(**asks)
    assert small.starts.at(images_B, small.k) is None
    asked = counted(small, monkeypatch)
    torch.testing.assert_close(small.step(x_BNC, images_B), found, rtol=1e-4, atol=1e-5)
    assert asked == [(small.k, len(images_B))]


def test_pooling_is_left_to_the_compressor(make):
    training = make(**{"model.compressor.init": "pool"})
    assert training.starts.at(torch.arange(2), training.k) is None
