"""Pictures → tokens: encoded once, shared by every trial, epoch and later sweep.

A store is a folder named by its fingerprint: shards and a manifest with a sha256 for each. An interruption costs the
shards in work."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from toconv.errors import DataError, EncoderError, disk
from toconv.hardware import resolve_device
from toconv.known_files import known_sha256
from toconv.object_store import ObjectStore
from toconv.progress import console, duration, phase, say
from toconv.settings import DataSettings, EncoderSettings, Settings
from toconv.tokens.encode_shards import Helper, encode_missing
from toconv.tokens.encoder_models import count_blocks
from toconv.tokens.encoder_weights import (
    architecture_identity,
    fetched_weights,
    resolve_dtype,
    unvouched,
    weights_identity,
)
from toconv.tokens.images import Picture, Splits, class_names, digests, keep_pictures, listed_and_skipped
from toconv.tokens.manifest import SPLITS, is_complete, read_manifest, write_manifest
from toconv.tokens.near_duplicates import keep_hashes
from toconv.tokens.readable import keep_reasons, unreadable
from toconv.tokens.remote import fetch_derived, fetch_shards, send_store
from toconv.tokens.remote_claims import RemoteClaims
from toconv.tokens.room import check_room
from toconv.tokens.shards import Claims, Shard, entries, intact, keep_shards, look_again_at_one, plan_shards
from toconv.tokens.standardisation import mean_and_std

BeforeEncoding = Callable[[Claims, list[Shard]], Sequence[Helper]]

FORMAT = 1
FIRST_MINUTE = 300  # pictures that are encoded in it on a CPU


def fingerprint_parts(settings: Settings, splits: Splits) -> dict[str, Any]:
    """Everything that decides a token, as plain values."""
    encoder, data = settings.encoder, settings.data
    return {
        "format": FORMAT,
        "architecture": architecture_identity(encoder),
        "weights": _checked_weights(encoder),
        **{name: getattr(encoder, name) for name in ("layer", "image_size", "mean", "std")},
        "dtype": str(resolve_dtype(encoder, resolve_device(settings.hardware))),
        **{name: getattr(data, name) for name in ("crops", "seed")},
        **({} if settings.store.dtype == "fp16" else {"stored": settings.store.dtype}),  # stores of before name none
        "pictures": {
            name: [[p.key, d] for p, d in zip(pictures, digests(pictures, data.workers), strict=True)]
            for name, pictures in splits.items()
        },
    }


def _checked_weights(encoder: EncoderSettings) -> str:
    """The weights' identity. Raises EncoderError where `encoder.sha256` is given and the file's differs."""
    identity = weights_identity(encoder)
    if encoder.sha256:
        of_file = identity if identity.startswith("sha256:") else f"sha256:{known_sha256(fetched_weights(encoder))}"
        if of_file != f"sha256:{encoder.sha256.lower()}":
            raise EncoderError(
                f"encoder.sha256={encoder.sha256}: {encoder.weights} has {of_file}; give that one, or "
                "encoder.sha256=null"
            )
    return identity


def fingerprint(parts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def prepare_store(settings: Settings, before_encoding: BeforeEncoding = lambda claims, missing: ()) -> Path:
    """The folder of the settings' token store; encodes what is missing or damaged, once, with progress, after
    `before_encoding` has made sure of what comes behind it and named other devices that are at work on it. Processes
    that do this at the same time encode each shard once between them. Raises EncoderError, DataError (all pictures that
    cannot be read) or MachineryError (a full disk); shards finished before stay."""
    console.print(settings.encoder.stated + unvouched(settings.encoder))
    if remote := ObjectStore.asked(settings.store):
        remote.check()
    with phase("listing and hashing pictures"):
        splits = _splits(settings.data)
        parts = fingerprint_parts(settings, splits)
        keep_pictures(settings.data, splits)  # which all are hashed by now
    folder = settings.data.tokens_dir.resolve() / fingerprint(parts)
    folder.mkdir(parents=True, exist_ok=True)
    shards = plan_shards(splits, settings.data)
    claims = Claims(folder, shards)
    manifest = _manifest(folder, parts)
    with phase(f"checking tokens in {folder}"):
        look_again_at_one(folder, manifest)
        known = manifest["shards"] if manifest.get("complete") else entries(folder, manifest)
        missing = [shard for shard in shards if not intact(folder, known.get(shard.name))]
    start = time.monotonic()
    if missing:
        check_room(settings, folder, missing)
        claims.elsewhere = RemoteClaims(remote, folder) if remote else None
    fetched = fetch_shards(remote, folder, missing) if remote and missing else []
    if unknown := [shard for shard in missing if shard.name not in fetched]:
        _encode(settings, claims, unknown, before_encoding(claims, unknown))
    if missing or not manifest.get("complete"):
        with phase(f"waiting for {folder}, which another process completes"):
            lock = FileLock(folder / ".lock").acquire()
        with lock:
            manifest = _completed(settings, folder, _manifest(folder, parts), [shard.name for shard in shards])
    keep_shards(folder, manifest)
    if remote:
        send_store(remote, folder, manifest)
        fetch_derived(remote, folder)
    done = sum(len(shard.pictures) for shard in unknown) * settings.data.crops
    theirs = sum(len(shard.pictures) for shard in unknown if not claims.is_own(shard)) * settings.data.crops
    others = f", {theirs} of them by others" if theirs else ""
    encoded = f"{done} encoded now in {duration(time.monotonic() - start)}{others}" if done else "none encoded now"
    console.print(f"tokens: {_told(settings, manifest)}; {encoded}; {folder}")
    return folder


def _told(settings: Settings, manifest: dict[str, Any]) -> str:
    total, dtype = sum(shard["images"] for shard in manifest["shards"].values()), manifest["parts"]["dtype"]
    encoder = f"{settings.encoder.name} in {dtype.removeprefix('torch.')}"
    return f"{total} images by {encoder}, stored in {settings.store.dtype}"


def _manifest(folder: Path, parts: dict[str, Any]) -> dict[str, Any]:
    """What is there, or the beginning."""
    return read_manifest(folder) or {"fingerprint": folder.name, "parts": parts, "shards": {}}


def _splits(data: DataSettings) -> Splits:
    """Says which pictures are skipped, and keeps that for the next start."""
    splits, skipped = listed_and_skipped(data)
    for path, why in skipped.items():
        say(f"skipped: {path}: {why}")
    keep_hashes(data)
    if data.unreadable == "skip":
        with disk(f"{data.tokens_dir}: not written"):
            keep_reasons(data)
    return splits


def find_store(settings: Settings, splits: Splits) -> Path | None:
    """The folder of a complete store of these pictures, if there is one."""
    folder = store_folder(settings, splits)
    return folder if is_complete(folder) else None


def store_folder(settings: Settings, splits: Splits) -> Path:
    """The folder that a store of these pictures has, or would have."""
    return settings.data.tokens_dir.resolve() / fingerprint(fingerprint_parts(settings, splits))


def unfinished(settings: Settings, splits: Splits, folder: Path) -> list[Shard]:
    """Shards that are still to be encoded into `folder`, by what is written there."""
    known = entries(folder, read_manifest(folder) or {"shards": {}})
    return [shard for shard in plan_shards(splits, settings.data) if shard.name not in known]


def _encode(settings: Settings, claims: Claims, missing: list[Shard], helpers: Sequence[Helper]) -> None:
    try:
        encode_missing(settings, claims, missing, helpers)
    except DataError as error:
        pictures = [picture for shard in missing for picture in shard.pictures]  # decode the rest too, to name them all
        raise _all_unreadable(settings.data, pictures) or error from error


def check_pictures(data: DataSettings, splits: Splits) -> None:
    """Raises DataError that names all that cannot be read of the pictures that a start meets in its first minute."""
    pictures = [picture for split in SPLITS for picture in splits[split]]
    if error := _all_unreadable(data, pictures[:FIRST_MINUTE]):
        raise error


def _all_unreadable(data: DataSettings, pictures: list[Picture]) -> DataError | None:
    found = unreadable({p.path: p.sha256 for p in pictures}, data)
    lines = [f"{path}: {why}" for path, why in found.items()]
    return DataError(*lines[:-1], f"{lines[-1]}; data.unreadable=skip goes on without") if lines else None


def _completed(settings: Settings, folder: Path, manifest: dict[str, Any], order: list[str]) -> dict[str, Any]:
    """The manifest with all shards in order and the channels' mean and standard deviation over training tokens; as it
    is where another process has written that of the same shards."""
    found = entries(folder, manifest)
    shards = {name: found[name] for name in order}
    if manifest.get("complete") and manifest["shards"] == shards:
        return manifest
    encoder = settings.encoder
    manifest |= {"shards": shards, "encoder": encoder.name, "grid_size": encoder.grid_size}
    manifest |= {"blocks": count_blocks(encoder)}
    manifest["classes"] = class_names(manifest["parts"]["pictures"], settings.data.kind)
    mean_C, std_C = mean_and_std(folder, manifest, encoder.grid_size**2)
    manifest |= {"mean": mean_C.tolist(), "std": std_C.tolist(), "complete": True}
    write_manifest(folder, manifest)
    return manifest
