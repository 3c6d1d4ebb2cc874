"""Pictures that look alike share a split."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from toconv import config
from toconv.tokens import images, listing, near_duplicates, samples
from toconv.tokens.images import list_splits
from toconv.tokens.near_duplicates import NEAR, NEAR_IN_SERIES, keep_hashes, perceptual_hash, perceptual_hashes


def hash_of(image):
    return perceptual_hash(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS).tobytes())


def split_of(data):
    return {picture.key: name for name, pictures in list_splits(data).items() for picture in pictures}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A folder of twelve photographs of different things."""
    folder = tmp_path_factory.mktemp("scenes")
    for number, picture in enumerate(samples._of_packages()[:12]):
        Image.open(picture.path).convert("RGB").resize((160, 128)).save(folder / f"{'abcdefghijkl'[number]}.png")
    return folder


def folder_of(pictures, root):
    for path in pictures.iterdir():
        shutil.copy(path, root)
    overrides = {"data": "folder", "data.root": str(root), "data.tokens_dir": str(root / ".tokens")}
    return config.compose(overrides).data


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(near_duplicates, "_found", {})


def test_the_hash_is_the_sign_of_the_lowest_cosines_above_their_median(photographs):
    for path in photographs.iterdir():
        grey = Image.open(path).convert("L").resize((32, 32))
        low = dctn(np.asarray(grey, float), norm="ortho")[:8, :8] * np.outer(*[np.r_[2**0.5, np.ones(7)]] * 2)
        expected = "".join("01"[int(value > np.median(low))] for value in low.flatten())
        assert f"{perceptual_hash(grey.tobytes()):064b}" == expected


def test_pictures_of_one_colour_are_alike():
    assert len({perceptual_hash(bytes([grey]) * 1024) for grey in (1, 100, 255)}) == 1


CHANGES = {
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L"),
    "cropped": lambda image: image.crop((1, 1, image.width - 1, image.height - 1)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_stays_in_the_split_of_its_picture(scenes, tmp_path, change):
    data = folder_of(scenes, tmp_path)
    alone = split_of(data)
    for path in scenes.iterdir():
        CHANGES[change](Image.open(path)).save(tmp_path / f"z{path.stem}.jpg", quality=30)
    splits = split_of(data)
    assert len(splits) == 24 and all(splits[f"z{key[0]}.jpg"] == splits[key] for key in alone)
    assert {key: splits[key] for key in alone} == alone, "the pictures themselves lie where they lay without copies"


def test_groups_are_what_chains_of_near_hashes_join():
    draw = np.random.default_rng(0)
    hashes = [int(number) for number in draw.integers(0, 2**63, 12)]
    for start in hashes[:6]:
        for bits in draw.permutation(64)[: 3 * NEAR].reshape(3, NEAR):
            start ^= sum(1 << int(bit) for bit in bits)
            hashes.append(start)
    names = [f"{place}" for place in range(len(hashes))]
    found = near_duplicates.near_duplicates(
        [f"{name}/a" for name in names], names, dict(zip(names, hashes, strict=True))
    )
    near = np.array([[(a ^ b).bit_count() <= NEAR for b in hashes] for a in hashes])
    joined = np.linalg.matrix_power(near.astype(float), len(hashes)) > 0
    assert {tuple(group) for group in found} == {tuple(np.flatnonzero(row).tolist()) for row in joined}
    assert sorted(place for group in found for place in group) == list(range(len(hashes)))
    assert sorted(map(len, found)) == [1] * 6 + [4] * 6


def flipped(number, bits):
    return number ^ (2**bits - 1)


@pytest.mark.parametrize(
    ("keys", "bits", "together"),
    [
        (["a/frame_009.png", "a/frame_010.png"], NEAR_IN_SERIES, True),
        (["a/frame_009.png", "a/frame_010.png"], NEAR_IN_SERIES + 1, False),
        (["a/frame_009.png", "b/frame_010.png"], NEAR_IN_SERIES, False),
        (["a/frame_009.png", "a/still_010.png"], NEAR_IN_SERIES, False),
        (["1/a.png", "2/a.png"], NEAR_IN_SERIES, False),
        (["a/frame_009.png", "b/x.png"], NEAR, True),
    ],
)
def test_neighbours_in_a_series_may_differ_more(keys, bits, together):
    start = 0x0123456789ABCDEF
    found = near_duplicates.near_duplicates(keys, ["x", "y"], {"x": start, "y": flipped(start, bits)})
    assert (len(found) == 1) == together


def test_a_series_is_ordered_by_its_numbers():
    keys = ["frame_10", "frame_9", "frame_8"]
    hashes = {"10": flipped(0, 24), "9": flipped(0, 12), "8": 0}
    assert near_duplicates.near_duplicates(keys, ["10", "9", "8"], hashes) == [[0, 1, 2]]


def test_what_cannot_be_read_is_like_nothing_but_its_copies():
    found = near_duplicates.near_duplicates(["1", "2", "3"], ["bad", "worse", "bad"], {"bad": None, "worse": None})
    assert found == [[0, 2], [1]]


def test_each_picture_is_decoded_once_by_all_processes(scenes, tmp_path, monkeypatch):
    data = folder_of(scenes, tmp_path)
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    digests = {path: path.name for path in (*scenes.iterdir(), bad)}
    found = dict(perceptual_hashes(digests, data))
    assert found.pop("bad.jpg") is None
    assert all((found[p.name] ^ hash_of(Image.open(p))).bit_count() <= 4 for p in scenes.iterdir())
    keep_hashes(data)
    monkeypatch.setattr(near_duplicates, "_found", {})
    monkeypatch.setattr(near_duplicates, "thumbnail", None)
    assert perceptual_hashes(digests, data) == {**found, "bad.jpg": None}
    (kept,) = (tmp_path / ".tokens").iterdir()
    written = kept.stat().st_mtime_ns
    keep_hashes(data)
    assert kept.stat().st_mtime_ns == written and json.loads(kept.read_text()) == {**found, "bad.jpg": None}


def test_what_another_process_kept_meanwhile_stays(scenes, tmp_path, monkeypatch):
    data, (first, second, *_) = folder_of(scenes, tmp_path), sorted(scenes.iterdir())
    perceptual_hashes({first: "first"}, data)  # of 20,000 pictures, say
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(near_duplicates, "_found", {})
        perceptual_hashes({second: "second"}, data)
        keep_hashes(data)
    keep_hashes(data)
    (kept,) = (tmp_path / ".tokens").iterdir()
    assert json.loads(kept.read_text()).keys() == {"first", "second"}


def test_groups_are_said_and_so_is_that_nobody_looked(scenes, tmp_path, monkeypatch, capsys):
    data = folder_of(scenes, tmp_path)
    Image.open(scenes / "a.png").save(tmp_path / "again.jpg")
    listing.say_once.cache_clear()
    splits = split_of(data)
    assert splits["again.jpg"] == splits["a.png"]
    assert "near-duplicates: 2 pictures in 1 group(s), each in one split; the first: a.png, again.jpg" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr(images, "MOST", 12)
    monkeypatch.setattr(near_duplicates, "thumbnail", None)
    monkeypatch.setattr(near_duplicates, "_found", {})
    split_of(data)
    assert "near-duplicates: not looked for among more than 12 pictures" in capsys.readouterr().out


def test_a_folder_of_one_scene_is_refused(scenes, tmp_path):
    picture = Image.open(scenes / "a.png")
    for quality in range(20, 90, 10):
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=quality)
        (tmp_path / f"{quality}.jpg").write_bytes(content.getvalue())
    data = config.compose({"data": "folder", "data.root": str(tmp_path)}).data
    with pytest.raises(images.DataError, match="1 different picture.s. found, near-duplicates counted once"):
        list_splits(data)
