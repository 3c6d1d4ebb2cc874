"""Checkpoints: atomic and checksummed, plain `torch.save` files that `torch.load` reads by itself."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from toconv.errors import CheckpointError, disk
from toconv.paths import write_atomic

FORMAT = 2


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (nested dicts and lists of tensors and plain values) to `path`, whole or not at all. A full disk
    raises MachineryError and leaves the earlier file as it was."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "checksum": checksum(state), "state": state}, buffer)
    with disk(f"{path}: checkpoint not written", "; the one before it is intact"):
        write_atomic(path, buffer.getbuffer())


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint to CPU tensors. Raises CheckpointError where the file is missing, truncated, altered, or not a
    checkpoint of toconv."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such checkpoint") from error
    except Exception as error:  # torch raises many kinds for a damaged archive
        raise CheckpointError(f"{path}: not readable as a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not a checkpoint of this version of toconv (format {FORMAT})")
    if checksum(content["state"]) != content["checksum"]:
        raise CheckpointError(f"{path}: checksum differs; the file was altered after it was written")
    return content["state"]


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
