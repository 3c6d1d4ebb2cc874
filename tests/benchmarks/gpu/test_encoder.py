import torch

from benchmarks.gpu import encoder
from benchmarks.gpu.encoder import PlainViT
from benchmarks.gpu.lab import Lab
from benchmarks.gpu.scale import CARD, TINY
from benchmarks.products import Products, flops


def test_its_shape_is_that_of_vit_l_14():
    with torch.device("meta"):
        model, images = PlainViT(CARD.encoder), torch.empty(1, 3, 336, 336)
        assert model(images).shape == (1, 577, 1024)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == 304  # million weights


def test_the_products_that_it_is_held_against_are_all_those_of_its_layers(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(encoder, "matmuls", lambda found, device: seen.append(found) or (lambda: None))
    row = next(encoder.measure(Lab(TINY, torch.device("cpu"), tmp_path)))
    shape, (batch,) = TINY.encoder, TINY.encoder.batches
    places = batch * (shape.image_size // shape.patch_size) ** 2
    layers = 2 * shape.blocks * (places + batch) * 12 * shape.width**2
    assert flops(seen[0]) == layers + 2 * places * 3 * shape.patch_size**2 * shape.width
    assert row["pictures_s"] > 0


def test_products_are_not_seen_in_inference_mode():
    """Why the encoder is measured under no_grad."""
    layer, x = torch.nn.Linear(3, 4), torch.randn(2, 3)
    counts = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), Products() as products:
            layer(x)
        counts.append(flops(products.found))
    assert counts == [2 * 2 * 3 * 4, 0]
