"""The best linear code of a token store, fitted once for each k."""

from typing import Any

import torch

from toconv.models.linear_code import LinearCode, fit_linear_code
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived
from toconv.tokens.store import TokenStore

FITTED_BY = ("grid.py", "models/linear_code.py", "tokens/batches.py", "tokens/codes.py")
BATCH = 32  # images at a time; changes no number


def linear_code(store: TokenStore, k: int, device: torch.device) -> LinearCode:
    """The store's code at k, on `device`."""

    def fit() -> dict[str, Any]:
        return dict(fit_linear_code(Batches(store, "train", BATCH, device), store.grid_size, k).cpu().state_dict())

    code = LinearCode(store.width, store.grid_size, k)
    code.load_state_dict(derived(store, f"code-k{k}", FITTED_BY, fit))
    return code.to(device)
