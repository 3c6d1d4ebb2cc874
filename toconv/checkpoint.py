"""Checkpoints: atomic and checksummed, plain `torch.save` files that `torch.load` reads by itself."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from pickletools import genops
from typing import Any

import torch

from toconv.errors import CheckpointError, disk
from toconv.paths import write_atomic

FORMAT = 2
TENSOR_PARTS = re.compile(r"torch\._utils _rebuild_(tensor_v2|parameter)|torch \w+Storage|collections OrderedDict")


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (nested dicts and lists of tensors and plain values) to `path`, whole or not at all. A full disk
    raises MachineryError and leaves the earlier file as it was."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "checksum": checksum(state), "state": state}, buffer)
    with disk(f"{path}: checkpoint not written", "; the one before it is intact"):
        write_atomic(path, buffer.getbuffer())


def load(path: Path, parts: Collection[str] = (), mapped: bool = False) -> dict[str, Any]:
    """Read a checkpoint to CPU tensors, or leave those in the file and map it. Raises CheckpointError where the file is
    missing, truncated, altered, not a checkpoint of toconv, or one that has not all of the `parts`."""
    content = _content(path, mmap=mapped)
    if checksum(content["state"]) != content["checksum"]:
        raise CheckpointError(f"{path}: checksum differs; the file was altered after it was written")
    return _with_parts(content["state"], parts, path)


def glance(path: Path, parts: Collection[str]) -> dict[str, Any]:
    """As `load`, but tensors are not read, and hence not held against the checksum: milliseconds, whatever the size."""
    return _with_parts(_content(path, mmap=True)["state"], parts, path)


def _content(path: Path, **how: Any) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path}: a checkpoint must be a file, which this is not")
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True, **how)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise CheckpointError(f"{path}: not readable as a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or not {"checksum", "state"} <= content.keys():
        raise CheckpointError(f"{path}: not a checkpoint of this version of toconv (format {FORMAT})")
    return content


def _check_archive(path: Path) -> None:
    """Raises CheckpointError where the archive would take more memory than the file has bytes, or names another thing
    than tensors, before any of it is read."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        unpacked, packed = sum(part.file_size for part in parts), path.stat().st_size
        if unpacked > packed:
            raise CheckpointError(f"{path}: would unpack to {unpacked} bytes, has {packed}; none of toconv's does")
        pickles = [archive.read(part) for part in parts if part.filename.endswith("/data.pkl")]
    named = {str(what) for pickle in pickles for code, what, _ in genops(pickle) if "GLOBAL" in code.name}
    if foreign := sorted(name for name in named if not TENSOR_PARTS.fullmatch(name)):
        raise CheckpointError(f"{path}: holds {', '.join(foreign)[:200]}, which no checkpoint of toconv has")


def _with_parts(state: Any, parts: Collection[str], path: Path) -> dict[str, Any]:
    lacking = [part for part in parts if not isinstance(state, dict) or part not in state]
    if lacking:
        raise CheckpointError(f"{path}: is no checkpoint of a training (it has no {', '.join(lacking)})")
    return state


def checksum(state: Any) -> str:
    """sha256 over the keys, the values and the tensors' types, shapes and bytes of a nested state."""
    digest = hashlib.sha256()
    _feed(digest, state)
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, node: Any) -> None:
    if isinstance(node, torch.Tensor):
        digest.update(f"tensor {node.dtype} {tuple(node.shape)}".encode())
        digest.update(node.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(node, dict):
        digest.update(f"dict {len(node)}".encode())
        for key, value in node.items():
            digest.update(repr(key).encode())
            _feed(digest, value)
    elif isinstance(node, list | tuple):
        digest.update(f"list {len(node)}".encode())
        for value in node:
            _feed(digest, value)
    else:
        digest.update(repr(node).encode())
