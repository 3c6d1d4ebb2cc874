"""How long a start takes to know that a large token store is whole, and what memory it takes, as the store grows.

Pictures are names of a few small files, laid out as ImageNet's; shards are sparse files of zeros. A start lists and
looks at all of them, as of real ones, and reads one shard."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.comparison import REPOSITORY
from benchmarks.growth import exponent
from toconv.config import compose
from toconv.errors import ExitCode
from toconv.paths import write_atomic
from toconv.settings import Settings

COUNTS, TINY = (10_000, 100_000, 1_000_000), (60, 240)
NAMES_OF_A_FILE = 50_000  # which ext4 allows 65,000 of
OF_A_CLASS = 1000
BENCH = REPOSITORY / "outputs" / "bench" / "large_store.json"
START = "import sys, benchmarks.large_store as b; b.start(sys.argv[1])"


def main(arguments: list[str]) -> int:
    asked = _parser().parse_args(arguments)
    found = {}
    for count in asked.pictures or (TINY if asked.tiny else COUNTS):
        with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
            found[count] = measured(Path(folder), count)
        print(told(count, found[count]), flush=True)
    print("\n".join(growth(found)))
    write_atomic(BENCH, json.dumps(found))
    print(BENCH)
    return ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks large_store", description=__doc__)
    parser.add_argument("pictures", nargs="*", type=int, help=f"of each store {COUNTS}")
    parser.add_argument("--tiny", action="store_true", help=f"{TINY} pictures, to see that it works")
    parser.add_argument("--folder", type=Path, help="where the stores lie, and go when measured (the system's own)")
    return parser


def told(count: int, found: Mapping[str, float]) -> str:
    return (
        f"{count:,} pictures, {found['bytes'] / 1e9:,.0f} GB of tokens: a start takes {found['seconds']:.1f} s and "
        f"{found['memory'] / 1e6:,.0f} MB"
    )


def growth(found: Mapping[int, Mapping[str, float]]) -> list[str]:
    """The exponent over the sizes, where there are several: below 1, a start grows slower than its store."""
    if len(found) < 2:
        return []
    curves = {name: [(count, of[name]) for count, of in found.items()] for name in ("seconds", "memory")}
    return [f"{name}: pictures^{exponent(curve):.2f}" for name, curve in curves.items()]


def measured(folder: Path, count: int) -> dict[str, float]:
    """Of the start after the one in which all was new."""
    make_pictures(folder / "pictures", count)
    size = make_store(asked_of(folder))
    _started(folder)  # makes a manifest of the entries, and keeps what it knows of files
    return {"bytes": size, **_started(folder)}


def asked_of(folder: Path) -> Settings:
    return compose(
        {
            "data": "imagenet",
            "data.imagenet_root": str(folder / "pictures"),
            "data.tokens_dir": str(folder / "tokens"),
            **{f"data.{split}_pictures": None for split in ("train", "val", "test")},
            "encoder.dtype": "fp32",
        }
    )


def make_pictures(root: Path, count: int) -> None:
    """Nine of ten for training. Their content is looked at by nobody here."""
    originals = root / "originals"
    originals.mkdir(parents=True)
    for number in range(count):
        original = originals / str(number // NAMES_OF_A_FILE)
        if not number % NAMES_OF_A_FILE:
            original.write_bytes(str(number).encode())
            os.utime(original, (1_600_000_000, 1_600_000_000))
        folder = root / ("val" if number % 10 == 9 else "train") / f"class{number // OF_A_CLASS}"
        if not number % OF_A_CLASS or not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
        os.link(original, folder / f"{number}.jpg")


def make_store(settings: Settings) -> int:
    """Shards that are finished, of zeros, and known as those are that were just encoded; returns the bytes of their
    tokens."""
    from toconv.known_files import keep_known, note
    from toconv.tokens.encoding import store_folder
    from toconv.tokens.images import list_splits
    from toconv.tokens.shards import ENTRY, KNOWN, plan_shards

    splits = list_splits(settings.data)
    folder, encoder = store_folder(settings, splits), settings.encoder
    folder.mkdir(parents=True)
    digests, files, total = dict[int, str](), list[Path](), 0
    for shard in plan_shards(splits, settings.data):
        images = len(shard.pictures)
        sizes = {".tokens.fp16": 2 * images * encoder.grid_size**2 * encoder.width, ".class.fp16": 2 * encoder.width}
        sizes |= {".sums.fp64": 16 * encoder.width} if shard.split == "train" else {}
        sha256 = {}
        for kind, size in sizes.items():
            if size not in digests:
                digests[size] = hashlib.sha256(bytes(size)).hexdigest()
            path = folder / f"{shard.name}{kind}"
            with path.open("wb") as file:
                file.truncate(size)
            os.utime(path, (1_600_000_000, 1_600_000_000))
            note(path, digests[size])
            files.append(path)
            sha256[path.name] = digests[size]
        shapes = [(336, 336)] * images
        entry = {"split": shard.split, "images": images, "width": encoder.width, "shapes": shapes, "sha256": sha256}
        content = json.dumps(entry)
        (folder / f"{shard.name}{ENTRY}").write_text(f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")
        total += sizes[".tokens.fp16"]
    keep_known(folder / KNOWN, files)
    return total


def start(folder: str) -> None:
    """In a process of its own, as commands begin: a store that is there, opened for training. Prints what that took as
    JSON."""
    from toconv.command_line import collect_seldom
    from toconv.tokens.encoding import prepare_store
    from toconv.tokens.store import TokenStore

    collect_seldom()
    settings, began = asked_of(Path(folder)), time.perf_counter()
    TokenStore(prepare_store(settings))
    seconds = time.perf_counter() - began
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "memory": memory}))


def _started(folder: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", START, str(folder)], cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
