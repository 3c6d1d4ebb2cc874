"""Token stores in an object store: each shard is put there once it is whole, and fetched by a machine that has it not.

A file's key is its sha256, so that an entry names exactly the bytes that it was written for, whoever else writes that
shard. Entries come after their files, the manifest comes last."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError

from toconv.errors import MachineryError, StoreError, disk
from toconv.known_files import known_sha256, note
from toconv.object_store import AT_ONCE, ObjectStore
from toconv.paths import write_atomic
from toconv.progress import bar, say
from toconv.tokens.manifest import DERIVED, MANIFEST, SEAL, Manifest, is_complete, key_of
from toconv.tokens.shards import ENTRY, KNOWN, Shard, entry_in, shard_files
from toconv.tokens.standardisation import SUMS
from toconv.tokens.stored import SCALES, VALUES
from toconv.validation import broken_rule


def _all_of(folder: Path) -> str:
    return key_of(folder, "").rstrip("/")


def send_shard(remote: ObjectStore, folder: Path, name: str) -> None:
    """Its files, also where such are there, which may be other bytes by now; then its entry. Raises MachineryError
    where they cannot be put."""
    written = (folder / f"{name}{ENTRY}").read_bytes()
    for file, digest in (entry_in(written) or {"sha256": {}})["sha256"].items():
        remote.put(key_of(folder, digest), (folder / file).read_bytes())
    remote.put(key_of(folder, f"{name}{ENTRY}"), written)


def send_store(remote: ObjectStore, folder: Path, manifest: Mapping[str, Any]) -> None:
    """What is not there yet, then the manifest."""
    there = remote.listed(_all_of(folder))
    missing = {path: d for path, d in shard_files(folder, manifest).items() if d not in there}
    if missing:
        say(f"sending {len(missing)} files of tokens to {remote.url}")
    if missing or MANIFEST not in there:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda item: remote.put(key_of(folder, item[1]), item[0].read_bytes()), missing.items()))
        for path in folder.glob(f"*{ENTRY}"):
            if path.name not in there:
                remote.put(key_of(folder, path.name), path.read_bytes())
        remote.put(key_of(folder, MANIFEST), (folder / MANIFEST).read_bytes())


def fetch_shards(remote: ObjectStore, folder: Path, missing: Iterable[Shard]) -> list[str]:
    """Names of those that are there, which now are in `folder` too; one whose bytes are not what its entry says is
    none."""
    there = remote.listed(_all_of(folder))
    wanted = [shard.name for shard in missing if f"{shard.name}{ENTRY}" in there]
    if not wanted:
        return []
    with bar("shards") as progress, ThreadPoolExecutor(AT_ONCE) as pool:
        task, found = progress.add_task(f"fetching tokens from {remote.url}", total=len(wanted)), []
        fetched = pool.map(lambda name: fetch_shard(remote, folder, name), wanted)
        for name, is_whole in zip(wanted, fetched, strict=True):
            found += [name] if is_whole else []
            progress.advance(task)
    return found


def fetch_shard(remote: ObjectStore, folder: Path, name: str) -> bool:
    """Whether it is there, whole, and now in the folder."""
    written = remote.get(key_of(folder, f"{name}{ENTRY}")) or b""
    entry = entry_in(written)
    if entry is None or not _fetch_files(remote, folder, entry["sha256"]):
        return False
    with disk(f"{folder}: shard {name} not written"):
        write_atomic(folder / f"{name}{ENTRY}", written)
    return True


def _fetch_files(remote: ObjectStore, folder: Path, files: Mapping[str, str]) -> bool:
    """Whether all of them are there, whole."""
    for file, digest in files.items():
        if (folder / file).is_file() and known_sha256(folder / file) == digest:
            continue
        content = remote.get(key_of(folder, digest))
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            return False
        with disk(f"{folder / file}: not written"):
            write_atomic(folder / file, content)
            note(folder / file, digest)
    return True


def send_derived(remote: ObjectStore, folder: Path) -> None:
    """What was computed from a store and lies beside it, of which a name says how it was computed."""
    there = remote.listed(_derived(folder), deep=True)
    lying = {path: str(path.relative_to(folder / DERIVED)) for path in _derived_files(folder)}
    missing = {path: key for path, name in lying.items() if (key := f"{name}@{known_sha256(path)}") not in there}
    for path, key in sorted(missing.items(), key=lambda item: item[0].name == MANIFEST):
        remote.put(f"{_derived(folder)}/{key}", path.read_bytes())


def have_here(remote: ObjectStore, folder: Path, tokens: bool = True) -> None:
    """Fetch a whole store that another machine has put there, where this machine does not see it: once a machine, its
    manifest last; and what lies beside it. Without its `tokens` where a cache has them. Raises MachineryError where it
    is not whole there either."""
    with disk(f"{folder}: cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        _fetch_store(remote, folder, tokens)
        fetch_derived(remote, folder)


def _derived(folder: Path) -> str:
    return key_of(folder, DERIVED)


def _derived_files(folder: Path) -> Iterable[Path]:
    found = (path for path in (folder / DERIVED).rglob("*") if path.is_file())
    return (path for path in found if path.suffix not in (".lock", ".tmp") and path.name != KNOWN)


def fetch_derived(remote: ObjectStore, folder: Path) -> None:
    """What is here already stays; what is not what was put is left, to be computed again. A seal is made of the key of
    its file: machines that put a file at a time may each have put another one, and their seals."""
    above = (folder / DERIVED).resolve()
    there = remote.listed(_derived(folder), deep=True)
    sealed = {key.rpartition("@")[0] for key in there}
    for key in sorted(there, key=lambda key: MANIFEST in key):
        name, _, digest = key.rpartition("@")
        path = (above / name).resolve()
        if path.exists() or path.suffix == SEAL or not path.is_relative_to(above):
            continue
        content = remote.get(f"{_derived(folder)}/{key}") or b""
        if hashlib.sha256(content).hexdigest() == digest:
            with disk(f"{path}: not written"):
                if str(Path(name).with_suffix(SEAL)) in sealed:
                    write_atomic(path.with_suffix(SEAL), f"{digest}\n")
                write_atomic(path, content)


def _fetch_store(remote: ObjectStore, folder: Path, tokens: bool) -> None:
    written = (folder / MANIFEST).read_bytes() if is_complete(folder) else remote.get(key_of(folder, MANIFEST))
    if written is None:
        raise MachineryError(f"{folder}: is not there, nor are its tokens whole at {remote.url}")
    try:
        shards = Manifest.model_validate_json(written).shards.values()
    except ValidationError as error:
        raise StoreError(f"{remote.url}: {key_of(folder, MANIFEST)} is damaged ({broken_rule(error)})") from error
    wanted = [{name: d for name, d in shard.sha256.items() if tokens or not _is_tokens(name)} for shard in shards]
    lacking = [files for files in wanted if not all((folder / name).exists() for name in files)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = all(pool.map(lambda files: _fetch_files(remote, folder, files), lacking))
    if not whole:
        raise StoreError(
            f"{remote.url}: tokens of {folder.name} are not what was written; run the command that made them again"
        )
    if not is_complete(folder):
        with disk(f"{folder}: cannot be written"):
            write_atomic(folder / MANIFEST, written)


def _is_tokens(name: str) -> bool:
    """And not what is read of them at each start."""
    return VALUES in name or name.endswith((SCALES, SUMS))
