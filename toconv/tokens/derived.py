"""What is computed from a token store once and kept beside its tokens: by whoever asks first, for all others."""

from collections.abc import Callable
from typing import Any

from filelock import FileLock

from toconv import checkpoint
from toconv.code_version import code_version
from toconv.errors import CheckpointError
from toconv.tokens.store import TokenStore


def derived(
    store: TokenStore,
    name: str,
    computed_by: tuple[str, ...],
    compute: Callable[[], dict[str, Any]],
    mapped: bool = False,
) -> dict[str, Any]:
    """The state that `compute` gives, from the disk where it is there already; `computed_by` are the modules of toconv
    that decide it. `mapped` tensors lie in the file, in memory that processes share."""
    path = store.derived / f"{name}-{code_version(computed_by)}.pt"
    with FileLock(path.with_suffix(".lock")):
        try:
            return checkpoint.load(path, mapped=mapped)
        except CheckpointError:  # not there, or damaged
            state = compute()
            checkpoint.save(path, state)
            return checkpoint.load(path, mapped=True) if mapped else state
