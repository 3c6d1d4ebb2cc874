"""Where pictures come from, and how they are split: by picture, never by crop. Needs no torch."""

import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from toconv.errors import DataError
from toconv.known_files import add_known, hold, known_sha256, read_known
from toconv.settings import SOURCES, DataSettings, named_object
from toconv.tokens.listing import pictures_below, say_left_out, say_once, some
from toconv.tokens.manifest import SPLITS
from toconv.tokens.near_duplicates import MOST, Hashes, known_hashes, near_duplicates, perceptual_hashes
from toconv.tokens.readable import not_known, too_many, unreadable

RUN = 256  # pictures that a thread looks at before it asks for more
VAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.", re.I)  # of ImageNet's flat val/: the line of its class
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"  # of its devkit: a class a line


@dataclass(frozen=True, slots=True)
class Picture:
    key: str  # its name below its root, the same on every machine
    file: str | Path  # where it lies; a str where there may be a million

    @property
    def path(self) -> Path:
        return Path(self.file)

    @property
    def sha256(self) -> str:
        """Of its bytes, as `known_files` knows them; its name where they cannot be read."""
        try:
            return known_sha256(self.file)
        except OSError:
            return f"unreadable {self.key}"


def named(file: str | Path, root: Path) -> str:
    """The key of a picture below `root`; what is not UTF-8 in its name is escaped."""
    below = os.fspath(file).removeprefix(f"{str(root).rstrip(os.sep)}{os.sep}").replace(os.sep, "/")
    return below if below.isascii() else os.fsencode(below).decode("utf-8", "backslashreplace")


Splits = dict[str, list[Picture]]  # train, val, test


def list_splits(data: DataSettings) -> Splits:
    """{train, val, test: pictures}, with data.unreadable=skip those that can be read. Raises DataError where there are
    none, or too few for three splits."""
    return listed_and_skipped(data)[0]


def listed_and_skipped(data: DataSettings) -> tuple[Splits, dict[Path, str]]:
    """As `list_splits`, and why each of the others was skipped. A picture's split does not depend on the others."""
    read_known(_known_pictures(data))
    splits = _listed(data)
    if data.unreadable == "refuse":
        return splits, {}
    hold(_known_pictures(data), (p.file for pictures in splits.values() for p in pictures))
    found = {p.path: p.sha256 for pictures in splits.values() for p in pictures}
    if too_many(fresh := not_known(found, data)):
        say_once(f"data.unreadable=skip: which of {len(fresh)} pictures can be read is looked at when the sweep starts")
        return splits, {}
    skipped = unreadable(found, data)
    left = {name: [p for p in pictures if p.path not in skipped] for name, pictures in splits.items()}
    empty = [name for name, pictures in left.items() if not pictures]
    if empty:
        raise DataError(
            *(f"data={data.kind}: none of the {len(splits[name])} picture(s) for {name} can be read" for name in empty),
            *(f"{path}: {why}" for path, why in skipped.items()),
        )
    return left, skipped


def _listed(data: DataSettings) -> Splits:
    splits: Splits = named_object(SOURCES[data.kind].lists)(data)
    limits = {"train": data.train_pictures, "val": data.val_pictures, "test": data.test_pictures}
    return {name: _limited(pictures, limits[name], data.seed) for name, pictures in splits.items()}


def sources(data: DataSettings) -> str | None:
    """How many pictures there are of which source, where that differs between machines."""
    told = SOURCES[data.kind].told
    return None if told is None else str(named_object(told)())


def folder_splits(data: DataSettings) -> Splits:
    """All pictures below data.root."""
    assert data.root is not None  # cross_field_mistakes
    return divided(_folder(data.root), data)


def _folder(root: Path) -> list[Picture]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder of pictures")
    root = root.absolute()  # as `known_files` keeps them
    return [Picture(named(file, root), file) for file in pictures_below(root)]


def divided(pictures: list[Picture], data: DataSettings) -> Splits:
    """Split by picture with the seed; near-duplicates and series stay together."""
    shuffled = sorted(_together(pictures, data), key=lambda group: group[0].key)
    random.Random(data.seed).shuffle(shuffled)
    val = max(1, round(len(shuffled) * data.val_fraction))
    test = max(1, round(len(shuffled) * data.test_fraction))
    if len(shuffled) < val + test + 1:
        raise DataError(
            f"data={data.kind}: {len(shuffled)} different picture(s) found, near-duplicates counted once; train, val "
            "and test need at least one each"
        )
    parts = {"val": shuffled[:val], "test": shuffled[val : val + test], "train": shuffled[val + test :]}
    return {name: sorted((p for group in parts[name] for p in group), key=lambda p: p.key) for name in SPLITS}


def _together(pictures: list[Picture], data: DataSettings) -> list[list[Picture]]:
    """Those that must share a split in one list. Says how many, once a process."""
    found, hashes = digests(pictures, data.workers), {}
    hold(_known_pictures(data), (p.file for p in pictures))  # those beyond a limit too
    if len(pictures) > MOST:
        say_once(
            f"near-duplicates: not looked for among more than {MOST} pictures; those of the same bytes share a split"
        )
    else:
        hashes = _hashes({p.path: digest for p, digest in zip(pictures, found, strict=True)}, data)
    groups = [
        [pictures[place] for place in group] for group in near_duplicates([p.key for p in pictures], found, hashes)
    ]
    several = [group for group in groups if len({p.sha256 for p in group}) > 1]
    if several:
        count, first = sum(map(len, several)), some([p.key for p in several[0]])
        say_once(f"near-duplicates: {count} pictures in {len(several)} group(s), each in one split; the first: {first}")
    return groups


def _hashes(found: dict[Path, str], data: DataSettings) -> Hashes:
    known, fresh = known_hashes(found, data)
    if not too_many(fresh):
        return perceptual_hashes(found, data)
    say_once(
        f"near-duplicates: {len(fresh)} pictures are not known yet; the start looks for them among these, and the "
        "splits can differ by them"
    )
    return known


def imagenet_splits(data: DataSettings) -> Splits:
    """train/ is the training split; val/ is divided between val and test by the ratio of their fractions."""
    assert data.imagenet_root is not None  # cross_field_mistakes
    found = {part: _imagenet_part(data.imagenet_root, part) for part in ("train", "val")}
    held_out = found["val"]
    random.Random(data.seed).shuffle(held_out)
    count = round(len(held_out) * data.val_fraction / (data.val_fraction + data.test_fraction))
    splits = {"train": found["train"], "val": held_out[:count], "test": held_out[count:]}
    for name, pictures in splits.items():
        if not pictures:
            part = "train" if name == "train" else "val"
            raise DataError(
                f"data.imagenet_root={data.imagenet_root}: no pictures for {name}; {part}/ has {len(found[part])} in "
                "its class folders" + (", which val and test share" if part == "val" else "")
            )
    return {name: sorted(pictures, key=lambda p: p.key) for name, pictures in splits.items()}


def _imagenet_part(imagenet_root: Path, part: str) -> list[Picture]:
    """The pictures in the class folders of train/ or val/, or of a flat val/ with the classes of the devkit."""
    root = imagenet_root / part
    if not root.is_dir():
        raise DataError(f"data.imagenet_root={imagenet_root}: needs a folder {part}/ of class folders")
    root = root.absolute()
    files = pictures_below(root)
    flat = [Path(file) for file in files if file.rpartition(os.sep)[0] == str(root)]
    if flat and len(flat) < len(files):
        say_left_out(root, {"in no class folder": flat})
        files = [file for file in files if file.rpartition(os.sep)[0] != str(root)]
    elif flat and part == "val":
        return _with_classes(imagenet_root, flat)
    elif flat:
        raise DataError(
            f"{root}: its {len(flat)} picture(s) lie in it directly; move each into a folder of its class, as in "
            f"train/n01440764/{flat[0].name}"
        )
    return [Picture(f"{part}/{named(file, root)}", file) for file in files]


def _with_classes(imagenet_root: Path, flat: list[Path]) -> list[Picture]:
    """Pictures of a flat val/, below the numbers of their classes. Raises DataError where those are not known."""
    found = (path for folder in ("", "*/", "*/data/") for path in imagenet_root.glob(folder + GROUND_TRUTH))
    places = [path for path in found if path.is_file()]
    if not places:
        raise DataError(
            f"{imagenet_root / 'val'}: its {len(flat)} pictures lie in it directly, not in class folders; move each "
            f"into the folder of its class, or put the devkit (ILSVRC2012_devkit_t12, with {GROUND_TRUTH}) into "
            f"{imagenet_root}"
        )
    classes = [text for text in places[0].read_text(errors="replace").split() if text.isdecimal()]
    numbers = {path: int(match[1]) for path in flat if (match := VAL_NAME.match(path.name))}
    strangers = [path.name for path in flat if not 1 <= numbers.get(path, 0) <= len(classes)]
    if strangers:
        raise DataError(
            f"{imagenet_root / 'val'}: {places[0]} has {len(classes)} classes, for ILSVRC2012_val_00000001 to "
            f"ILSVRC2012_val_{len(classes):08d}; {len(strangers)} picture(s) have another name: {some(strangers)}"
        )
    return [Picture(f"val/{classes[number - 1]}/{named(path, path.parent)}", path) for path, number in numbers.items()]


def class_names(pictures: dict[str, list[list[str]]], kind: str) -> dict[str, list[str]]:
    """{split: the class of each picture}, of pictures given by key first: the folder that a picture lies in. Nothing
    where pictures lie in no class folders, or all in one."""
    if kind == "sample":
        return {}
    found = {split: [key.rpartition("/")[0] for key, *_ in listed] for split, listed in pictures.items()}
    if kind == "imagenet":  # below train/ and val/
        found = {split: [folder.split("/")[1] for folder in folders] for split, folders in found.items()}
    together = [name for names in found.values() for name in names]
    return found if all(together) and len(set(found["train"])) > 1 else {}


def _limited(pictures: list[Picture], limit: int | None, seed: int) -> list[Picture]:
    """The first of one order of all, so that a smaller choice lies within each larger one. `sample` of few among many
    has an algorithm of its own, whose choices do not."""
    if limit is None or len(pictures) <= limit:
        return pictures
    return sorted(random.Random(seed).sample(pictures, len(pictures))[:limit], key=lambda p: p.key)


def _known_pictures(data: DataSettings) -> Path:
    return data.tokens_dir.resolve() / "known-pictures.json"


def keep_pictures(data: DataSettings, splits: Splits) -> None:
    """Write how they look, and all that were hashed to list them, so that no later process reads them to know their
    bytes. What is known of other data sets stays."""
    add_known(_known_pictures(data), (picture.file for pictures in splits.values() for picture in pictures))


def digests(pictures: list[Picture], workers: int) -> list[str]:
    """sha256 of each picture's bytes."""
    runs = [pictures[start : start + RUN] for start in range(0, len(pictures), RUN)]
    with ThreadPoolExecutor(workers) as pool:
        return [digest for run in pool.map(lambda run: [p.sha256 for p in run], runs) for digest in run]
