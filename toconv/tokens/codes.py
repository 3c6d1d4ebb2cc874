"""The best linear code of a token store, fitted once for each k and kept beside the tokens."""

from __future__ import annotations

from pathlib import Path

import torch
from filelock import FileLock

from toconv import checkpoint
from toconv.errors import CheckpointError
from toconv.identity import code_version
from toconv.models.linear_code import LinearCode, fit_linear_code
from toconv.tokens.batches import Batches
from toconv.tokens.store import TokenStore

FITTED_BY = ("grid.py", "models/linear_code.py", "tokens/codes.py")
BATCH = 32  # images at a time; changes no number


def linear_code(store: TokenStore, k: int, device: torch.device) -> LinearCode:
    """The store's code at k, on `device`; whoever asks first fits it, all others wait and read."""
    path = store.derived / f"code-k{k}-{code_version(FITTED_BY)}.pt"
    with FileLock(path.with_suffix(".lock")):
        state = _read(path)
        if state is None:
            state = fit_linear_code(Batches(store, "train", BATCH, device), store.grid_size, k).cpu().state_dict()
            checkpoint.save(path, dict(state))
    code = LinearCode(store.width, store.grid_size, k)
    code.load_state_dict(state)
    return code.to(device)


def _read(path: Path) -> dict[str, torch.Tensor] | None:
    """None where there is no code, or a damaged one."""
    try:
        return checkpoint.load(path)
    except CheckpointError:
        return None
