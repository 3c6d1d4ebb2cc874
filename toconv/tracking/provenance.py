"""What all runs of a sweep have in common: where their tokens and their code come from."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toconv import config
from toconv.machine import user
from toconv.paths import CHECKOUT
from toconv.settings import Settings
from toconv.tokens.manifest import SPLITS
from toconv.tokens.store import TokenStore
from toconv.tokens.stored import DTYPES
from toconv.training.identity import deciding

GIT_SECONDS = 10.0


@dataclass(frozen=True)
class Provenance:
    """Of one sweep, or of a training without one."""

    sweep: str  # its name; empty where there is none
    root: Path  # the folder of its files
    source: str  # the script that was started
    user: str | None
    commit: str | None  # git's, of this repository
    store: Path  # the folder of the token store, which is named by its fingerprint
    encoder: str
    shape: tuple[int, int]  # (N, C) of an image
    images: Mapping[str, int]  # by split, crops counted singly
    dtype: str = "float16"  # of the stored tokens, as numpy names it
    ledger: str = ""  # before the names of its studies, as Optuna has them; empty where that is `sweep`
    sweep_id: str | None = None  # tells it from others of its name; None where an earlier version began it
    storage: str = "study.db"  # of the ledger: in the sweep's folder, or a database's address

    @property
    def fingerprint(self) -> str:
        return self.store.name


def provenance(sweep: str, root: Path, store: Path) -> Provenance:
    """Of the sweep in `root` on the token store in `store`."""
    found, source = TokenStore(store), Path(sys.argv[0]).name
    shape, images = (found.grid_size**2, found.width), {split: found.count(split) for split in SPLITS}
    dtype = str(DTYPES[found.dtype]).removeprefix("torch.")
    return Provenance(sweep, root, source, user(), git_commit(), store, found.encoder_name, shape, images, dtype)


def git_commit() -> str | None:
    """Of this repository, where it is one."""
    if CHECKOUT is None:
        return None
    try:
        command = ["git", "-C", str(CHECKOUT), "rev-parse", "HEAD"]
        git = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired):  # no git on this machine, or a disk that hangs
        return None
    return git.stdout.strip() or None


def settings_of_tokens(base: Settings) -> dict[str, Any]:
    """Encoder and pictures by dotted names, without paths."""
    encoder, data = base.encoder, base.data
    return {
        "encoder.name": encoder.name,
        "encoder.layer": encoder.layer,
        "encoder.image_size": encoder.image_size,
        "encoder.width": encoder.width,
        "data.kind": data.kind,
        "data.crops": data.crops,
    }


def settings_of_training(base: Settings) -> dict[str, Any]:
    """Everything that decides a training's result, by dotted names."""
    return {**config.flat(deciding(base)), **settings_of_tokens(base)}
