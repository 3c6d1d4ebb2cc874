"""`toconv verify`: read all tokens of stores, and tell which are not what was written."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toconv.errors import ExitCode, RequestError
from toconv.paths import OUTPUTS
from toconv.progress import bar, console
from toconv.tokens.manifest import MANIFEST, read_manifest
from toconv.tokens.shards import damaged_files, shard_files

USAGE = """
usage: toconv verify [STORE …]

Reads every file of the token stores (folders; all below outputs/tokens if none are named) and compares it with its
sha256. A start reads the shards whose size, time or inode changed, and one more; this reads all. Where a file is
damaged the exit code is 4: the command that uses the store encodes it anew.
"""


def main(arguments: list[str]) -> ExitCode:
    """Raises RequestError where a folder holds no store, or there is none."""
    if wrong := [word for word in arguments if word.startswith("-")]:
        raise RequestError(f"not understood: {' '.join(wrong)}\n{USAGE.strip()}")
    below = OUTPUTS / "tokens"
    stores = [Path(word) for word in arguments] or sorted(path.parent for path in below.rglob(MANIFEST))
    if not stores:
        raise RequestError(f"{below}: holds no token store; name the folder of one")
    found = {store: read_manifest(store) for store in stores}
    if none := [f"{store}: holds no token store" for store, manifest in found.items() if manifest is None]:
        raise RequestError(*none)
    damaged = [_damaged(store, manifest) for store, manifest in found.items() if manifest is not None]
    return ExitCode.MACHINERY if sum(damaged) else ExitCode.DONE


def _damaged(store: Path, manifest: Mapping[str, Any]) -> int:
    """How many files; says which."""
    files = shard_files(store, manifest)
    with bar("files") as progress:
        task = progress.add_task(f"reading {store}", total=len(files))
        damaged = damaged_files(store, manifest, os.cpu_count() or 1, lambda: progress.advance(task))
    for path in damaged:
        console.print(f"{path}: {'not what was written' if path.is_file() else 'not there'}")
    console.print(f"{store}: {len(files) - len(damaged)} of {len(files)} files are what was written")
    return len(damaged)
