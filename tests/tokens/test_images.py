"""Splits and crops."""

import shutil

import pytest
import torch

from toconv import config
from toconv.errors import DataError
from toconv.tokens.images import list_splits
from toconv.tokens.pixels import crops, decode


def keys(splits):
    return {name: [p.key for p in pictures] for name, pictures in splits.items()}


def test_the_sample_is_27_photographs_and_no_photograph_is_in_two_splits():
    splits = keys(list_splits(config.compose({}).data))
    everything = [key for names in splits.values() for key in names]
    assert len(everything) == len(set(everything)) == 27
    assert all(splits.values())
    assert splits == keys(list_splits(config.compose({}).data))


def test_the_same_picture_under_two_names_stays_in_one_split(photographs, tmp_path):
    for path in photographs.iterdir():
        for name in ("a", "b"):
            shutil.copy(path, tmp_path / f"{name}-{path.name}")
    for seed in range(5):
        data = config.compose({"data": "folder", "data.root": str(tmp_path), "data.seed": seed}).data
        splits = [{key[2:] for key in names} for names in keys(list_splits(data)).values()]
        assert not (splits[0] & splits[1] or splits[0] & splits[2] or splits[1] & splits[2])


def test_imagenet_trains_on_train_and_divides_val(photographs, tmp_path):
    for part, count in (("train", 8), ("val", 4)):
        for path in sorted(photographs.iterdir())[:count]:
            (tmp_path / part / f"n{count}").mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / part / f"n{count}")
    splits = keys(list_splits(config.compose({"data": "imagenet", "data.imagenet_root": str(tmp_path)}).data))
    assert len(splits["train"]) == 8 and all(key.startswith("train/") for key in splits["train"])
    assert len(splits["val"]) == len(splits["test"]) == 2
    assert all(key.startswith("val/") for name in ("val", "test") for key in splits[name])


@pytest.mark.parametrize("kind", ["folder", "imagenet"])
def test_a_folder_without_pictures_is_refused(tmp_path, kind):
    key = "data.root" if kind == "folder" else "data.imagenet_root"
    with pytest.raises(DataError):
        list_splits(config.compose({"data": kind, key: str(tmp_path)}).data)


def test_crops_are_the_same_each_time_and_differ_among_themselves(settings):
    picture = list_splits(settings.data)["train"][0]
    first = crops(picture, settings.data, settings.encoder)
    assert first.shape == (3, 3, 24, 24)
    assert torch.equal(first, crops(picture, settings.data, settings.encoder))
    assert not torch.equal(first[0], first[1])


def test_a_single_crop_is_the_encoders_own_preprocessing(tiny):
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    settings = config.compose({**tiny, "data.crops": 1})
    picture = next(p for p in list_splits(settings.data)["train"] if p.key.endswith("png"))
    theirs = image_transform_v2(PreprocessCfg(size=24, mean=settings.encoder.mean, std=settings.encoder.std), False)
    reference = theirs(Image.open(picture.path))
    ours = crops(picture, settings.data, settings.encoder)[0]
    assert (ours - reference).abs().max() < 2.5 / 255 / min(settings.encoder.std)


def test_pictures_are_decoded_as_pillow_decodes_them(settings):
    import numpy as np
    from PIL import Image

    for picture in (p for pictures in list_splits(settings.data).values() for p in pictures):
        reference = np.asarray(Image.open(picture.path).convert("RGB"), dtype=int)
        assert np.abs(decode(picture).permute(1, 2, 0).numpy().astype(int) - reference).max() <= 3
