"""Which pictures the error maps of a report are of."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from toconv import config
from toconv.report import error_maps
from toconv.report.error_maps import compute_error_maps
from toconv.tokens.encoding import prepare_store
from toconv.tokens.images import list_splits
from toconv.tokens.manifest import read_manifest


@pytest.fixture
def made(tiny, photographs, tmp_path, monkeypatch):
    """The error maps of a store, its folder of pictures and their keys; any checkpoint is a compressor without loss."""
    folder = tmp_path / "photographs"
    shutil.copytree(photographs, folder)
    settings = config.compose({**tiny, "data.root": str(folder)})
    store = prepare_store(settings)
    nothing = SimpleNamespace(k=3, grid_size=6, unrecovered=lambda *_: torch.zeros(1, 6, 6))
    monkeypatch.setattr(error_maps, "from_checkpoint", lambda path: (nothing, settings))
    record = SimpleNamespace(paths=SimpleNamespace(latest=tmp_path), tokens=9)
    keys = [key for key, _ in read_manifest(store)["parts"]["pictures"]["val"]]
    return SimpleNamespace(
        folder=folder,
        keys=keys,
        listed=lambda: list_splits(settings.data)["val"],
        maps=lambda: compute_error_maps(settings, store, {9: record}),
    )


def test_a_map_stands_beside_the_picture_of_its_tokens_whatever_pictures_came_since(made):
    before = made.maps()
    assert [found.name for found in before.pictures] == made.keys and not before.absent
    for number in range(12):
        Image.effect_noise((64, 64), 90).convert("RGB").save(made.folder / f"0 later {number * 7}.png")
    assert [picture.key for picture in made.listed()] != made.keys
    after = made.maps()
    assert [found.name for found in after.pictures] == made.keys and not after.absent
    for was, now in zip(before.pictures, after.pictures, strict=True):
        assert (was.image_HW3 == now.image_HW3).all()


def test_a_picture_that_is_another_one_by_now_has_no_map_and_that_is_said(made):
    Image.effect_noise((64, 64), 90).convert("RGB").save(made.folder / made.keys[0])
    found = made.maps()
    assert [maps.name for maps in found.pictures] == made.keys[1:]
    assert found.absent == [f"picture {made.keys[0]}: is gone, or another one than its tokens are of"]
