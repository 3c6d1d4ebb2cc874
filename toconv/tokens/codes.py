"""The best linear codes of a token store, fitted once for each k."""

# I images of the training split

import torch

from toconv.code_version import within
from toconv.models.linear_code import LinearCode
from toconv.models.linear_fit import LinearCodes, Shrinkage, fit_linear_codes
from toconv.tokens.batches import Batches
from toconv.tokens.derived import derived
from toconv.tokens.store import TokenStore

FITTED_BY = ("grid.py", *within("models", "linear_code", "linear_fit"), *within("tokens", "batches", "codes", "stored"))
BATCH = 32  # images at a time; changes no number but by rounding
FOLDS = 4  # of the training pictures, by which the shrinkage is chosen


def linear_codes(store: TokenStore, k: int, device: torch.device) -> LinearCodes:
    """The store's codes at k, on `device`."""

    def fit() -> LinearCodes:
        return fit_linear_codes(Batches(store, "train", BATCH, device), folds(store), store.grid_size, k)

    state = derived(store, f"codes-k{k}", FITTED_BY, lambda: fit().state_dict())
    pca, linear = (LinearCode(store.width, store.grid_size, k, completed) for completed in (False, True))
    pca.load_state_dict(state["pca"])
    linear.load_state_dict(state["linear"])
    return LinearCodes(pca.to(device), linear.to(device), Shrinkage(*state["shrinkage"]))


def folds(store: TokenStore) -> torch.Tensor:
    """(I,) the fold of each training image: pictures in their order, which keeps a series together; the images of one
    picture, or of a single one each image for itself, in one fold."""
    images = store.count("train")
    crops = store.crops if images > store.crops else 1
    picture_I = torch.arange(images) // crops
    pictures = int(picture_I[-1]) + 1
    return picture_I * min(FOLDS, pictures) // pictures
