"""Splits and crops."""

import os
import random
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from toconv import config
from toconv.errors import DataError
from toconv.tokens import images
from toconv.tokens.images import GROUND_TRUTH, Picture, class_names, list_splits, listed_and_skipped
from toconv.tokens.pixels import centre_view, crops, decode


def keys(splits):
    return {name: [p.key for p in pictures] for name, pictures in splits.items()}


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


def limited(count, limit, seed):
    """Names of so many of `count` pictures."""
    return [p.key for p in images._limited([Picture(f"{n:04d}", Path(f"{n:04d}")) for n in range(count)], limit, seed)]


@pytest.mark.parametrize("count", [12, 200, 3000])
def test_a_smaller_choice_of_pictures_lies_within_each_larger_one(count):
    limits = [*range(1, min(count, 300) + 1), count]
    chosen = [limited(count, limit, seed=0) for limit in limits]
    assert [len(names) for names in chosen] == limits and all(names == sorted(names) for names in chosen)
    assert all(set(smaller) <= set(larger) for smaller, larger in pairwise(chosen))


@pytest.mark.parametrize(("count", "limit"), [(12, 6), (21, 1), (64, 8), (200, 100), (3000, 2000)])
def test_of_few_pictures_or_many_of_them_those_are_chosen_that_a_sample_of_that_size_has(count, limit):
    """So that stores of such choices keep their names."""
    names = [f"{n:04d}" for n in range(count)]
    assert limited(count, limit, seed=0) == sorted(random.Random(0).sample(names, limit))


def test_the_choice_of_pictures_depends_on_the_seed():
    assert limited(200, 20, seed=0) == limited(200, 20, seed=0) != limited(200, 20, seed=1)


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
        assert np.abs(decode(picture).permute(1, 2, 0).numpy().astype(int) - reference).max() == 0


def imagenet(root, *names):
    """An ImageNet folder with train/ as it should be, and these pictures in val/."""
    for name in ("train/n01440764/a.JPEG", *(f"val/{name}" for name in names)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return config.compose({"data": "imagenet", "data.imagenet_root": str(root)}).data


FLAT = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3, 4)]


def test_a_flat_val_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(DataError, match="val: its 4 pictures lie in it directly, not in class folders; move each into"):
        list_splits(imagenet(tmp_path, *FLAT))


@pytest.mark.parametrize("place", ["", "ILSVRC2012_devkit_t12/data/", "val/"])
def test_a_flat_val_beside_the_devkit_has_its_classes(tmp_path, place):
    data = imagenet(tmp_path, *FLAT)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / place / GROUND_TRUTH).write_text("490\n361\n171\n822\n")
    splits = keys(list_splits(data))
    assert sorted(splits["val"] + splits["test"]) == [
        f"val/171/{FLAT[2]}",
        f"val/361/{FLAT[1]}",
        f"val/490/{FLAT[0]}",
        f"val/822/{FLAT[3]}",
    ]


@pytest.mark.parametrize("classes", ["490\n361\n171\n", "", "a b c d"])
def test_a_devkit_of_other_pictures_is_refused(tmp_path, classes):
    data = imagenet(tmp_path, *FLAT)
    (tmp_path / GROUND_TRUTH).write_text(classes)
    with pytest.raises(DataError, match=GROUND_TRUTH):
        list_splits(data)


def test_pictures_beside_class_folders_are_left_out_and_said(tmp_path, capsys):
    splits = keys(list_splits(imagenet(tmp_path, "n1/a.JPEG", "n2/deeper/b.JPEG", "preview.png")))
    assert sorted(splits["val"] + splits["test"]) == ["val/n1/a.JPEG", "val/n2/deeper/b.JPEG"]
    assert "left out (in no class folder): preview.png" in capsys.readouterr().out


def test_a_flat_train_is_refused_with_what_to_do(tmp_path):
    data = imagenet(tmp_path, "n1/a.JPEG", "n1/b.JPEG")
    (tmp_path / "train/n01440764/a.JPEG").rename(tmp_path / "train/a.JPEG")
    with pytest.raises(DataError, match="train: its 1 picture.s. lie in it directly; move each into a folder"):
        list_splits(data)


def test_imagenet_follows_links_and_ends_loops_as_a_folder_does(tmp_path):
    data = imagenet(tmp_path, "n1/a.JPEG", "n1/b.JPEG")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/c.JPEG").touch()
    (tmp_path / "train/n2").symlink_to("../elsewhere")
    (tmp_path / "train/n2/round").symlink_to("..")
    (tmp_path / "train/n3").symlink_to("nowhere")
    assert keys(list_splits(data))["train"] == ["train/n01440764/a.JPEG", "train/n2/c.JPEG"]


def test_a_name_that_is_not_utf_8_is_a_key_that_can_be_written(photographs, tmp_path, tiny):
    for number, path in enumerate(sorted(photographs.iterdir())):
        shutil.copy(path, tmp_path / os.fsdecode(b"\xff\n%d" % number + os.fsencode(path.suffix)))
    settings = config.compose({**tiny, "data.root": str(tmp_path)})
    splits = list_splits(settings.data)
    assert "\\xff\n0.jpg" in [key for names in keys(splits).values() for key in names]
    for picture in splits["train"]:
        assert picture.key.encode() and crops(picture, settings.data, settings.encoder).shape == (3, 3, 24, 24)


@pytest.mark.parametrize("shape", [(1, 50_000), (50_000, 1), (2, 100_000), (1, 1)])
def test_a_picture_of_any_shape_has_a_centre(shape):
    image_3HW = torch.arange(3 * shape[0] * shape[1], dtype=torch.float32).view(3, *shape).remainder(251).byte()
    assert centre_view(image_3HW, 336).shape == (3, 336, 336)


def test_the_centre_of_a_long_picture_is_that_of_the_whole():
    generator = torch.Generator().manual_seed(0)
    image_3HW = torch.randint(0, 256, (3, 40, 16 * 40 + 400), dtype=torch.uint8, generator=generator)
    whole = F.center_crop(F.resize(image_3HW, [80], InterpolationMode.BICUBIC, antialias=True), [80, 80])
    assert torch.equal(centre_view(image_3HW, 80), whole)


@pytest.mark.parametrize("unreadable", ["refuse", "skip"])
def test_pictures_that_cannot_be_read_are_listed_unless_they_are_skipped(photographs, tmp_path, unreadable, tiny):
    for path in photographs.iterdir():
        shutil.copy(path, tmp_path / path.name)
    for number in range(6):
        (tmp_path / f"bad{number}.jpg").write_bytes(b"no picture %d" % number)
    data = config.compose(
        {**tiny, "data.root": str(tmp_path), "data.unreadable": unreadable, "data.max_pixels": 120 * 90}
    ).data
    splits, skipped = listed_and_skipped(data)
    bad = {key for names in keys(splits).values() for key in names if key.startswith("bad")}
    assert len(bad) + len(skipped) == 6 and len(bad) == (6 if unreadable == "refuse" else 0)
    assert all("not a picture that can be read" in why for why in skipped.values())


def test_a_split_of_which_nothing_can_be_read_is_named(photographs, tmp_path, tiny):
    for path in photographs.iterdir():
        shutil.copy(path, tmp_path / path.name)
    data = config.compose({**tiny, "data.root": str(tmp_path), "data.unreadable": "skip", "data.max_pixels": 1000}).data
    with pytest.raises(DataError, match=r"(?s)for val can be read.*00.jpg: 10800 pixels, data.max_pixels=1000"):
        list_splits(data)


def test_the_class_of_a_picture_is_its_folder():
    def keys(*names):
        return {split: [[name, "digest"] for name in names] for split in ("train", "val", "test")}

    assert class_names(keys("cat/1.jpg", "dog/2.jpg"), "folder")["val"] == ["cat", "dog"]
    assert class_names(keys("train/n01/1.jpg", "train/n02/b/2.jpg"), "imagenet")["train"] == ["n01", "n02"]
    for kind, names in (("sample", ["a/1.jpg", "b/2.jpg"]), ("folder", ["1.jpg", "b/2.jpg"]), ("folder", ["b/2.jpg"])):
        assert class_names(keys(*names), kind) == {}
