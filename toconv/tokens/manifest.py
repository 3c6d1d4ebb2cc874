"""manifest.json of a token store: what its shards hold. A shard that is in it is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, FiniteFloat, ValidationError, model_validator

from toconv.errors import StoreError
from toconv.paths import write_atomic
from toconv.settings import Group, Positive
from toconv.validation import broken_rule

MANIFEST = "manifest.json"
DERIVED = "derived"  # beside it, the folder of what is computed from the tokens
SEAL = ".sha256"  # there in place of the .json of a file's name: its sha256
SPLITS = ("train", "val", "test")
SHARD_CROPS = 128  # images of a shard, at most
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]  # of a file of the store


def key_of(folder: Path, name: str) -> str:
    """Of a file of a store in an object store."""
    return f"tokens/{folder.name}/{name}"


class Content(NamedTuple):
    """Of a file of the store."""

    sha256: str
    size: int


Pixels = Annotated[int, Field(strict=True, ge=1, le=10**9)]  # without Python's help, since there are millions


class ShardEntry(Group, extra="ignore"):
    """A finished shard; earlier versions said more of it."""

    split: Literal["train", "val", "test"]
    images: Positive
    width: Positive
    sha256: dict[Name, str]
    shapes: list[tuple[Pixels, Pixels]] = []  # height and width of each picture; earlier versions do not tell


class Manifest(Group, extra="ignore"):
    """manifest.json; what comes below `shards` is there once all of them are."""

    fingerprint: Name
    parts: dict[str, Any]
    shards: dict[Name, ShardEntry]
    encoder: str = ""
    grid_size: Positive = 1
    blocks: Positive | None = None
    mean: list[FiniteFloat] = []
    std: list[FiniteFloat] = []
    classes: dict[str, list[str]] = {}  # of each split's pictures, where they lie in folders of their classes
    complete: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        widths = {len(self.mean), len(self.std), *(shard.width for shard in self.shards.values())}
        lacking = not self.shards or not self.encoder or "grid_size" not in self.model_fields_set
        if self.complete and (len(widths) > 1 or lacking):
            raise ValueError("complete, but not whole")
        return self


def read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / MANIFEST
    try:
        found = Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValidationError, OSError) as error:
        raise StoreError(f"{path}: damaged ({broken_rule(error)}); remove the folder to encode anew") from error
    first = {"fingerprint": found.fingerprint, "parts": found.parts}  # the pictures as they are: there may be a million
    return {**first, **found.model_dump(exclude_unset=True, exclude={*first})}


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=1))


def is_complete(folder: Path) -> bool:
    return bool((read_manifest(folder) or {}).get("complete"))
