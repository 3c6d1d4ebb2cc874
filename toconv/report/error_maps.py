"""Where on real pictures information is lost: average pooling beside the recommended compressor of each k."""

# B = 1 image, N = g*g original tokens, C channels, H W pixels

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from toconv import grid
from toconv.analysis.records import TrialRecord
from toconv.errors import DataError, ToconvError
from toconv.export.from_checkpoint import from_checkpoint
from toconv.export.module import TokenCompressor
from toconv.settings import Settings
from toconv.tokens.images import Picture, list_splits
from toconv.tokens.manifest import read_manifest
from toconv.tokens.pixels import Normalisation, crops
from toconv.tokens.store import TokenStore

PICTURES = 3  # evenly spaced over the validation pictures, by their names
MOST_OTHERS = 24  # trials beside the recommended ones
Key = TypeVar("Key", int, str)
ANYTHING = (ToconvError, OSError, RuntimeError, ValueError, KeyError)  # that reading a picture or a checkpoint raises


@dataclass(frozen=True)
class PictureErrorMaps:
    """Of one picture: squared error of each token over the picture's variance, so that a map's mean is its FVU."""

    name: str
    image_HW3: np.ndarray  # uint8, as the encoder sees it
    pooled: Mapping[int, np.ndarray]  # {tokens: (g, g)}
    best: Mapping[int, np.ndarray]
    others: Mapping[str, np.ndarray] = field(default_factory=dict)  # {trial_id: (g, g)}

    @property
    def kinds(self) -> dict[str, Mapping[int, np.ndarray]]:
        """Side by side, in this order."""
        return {"pooled": self.pooled, "best": self.best}


@dataclass(frozen=True)
class ErrorMaps:
    """The maps, and why some are not there."""

    pictures: Sequence[PictureErrorMaps] = ()
    absent: Sequence[str] = ()

    @cached_property
    def most(self) -> float:
        """The end of the colour scale that all maps share: 98 % of their tokens lie below."""
        every = [m.ravel() for p in self.pictures for maps in p.kinds.values() for m in maps.values()]
        return float(np.quantile(np.concatenate(every), 0.98))


def compute_error_maps(
    settings: Settings, tokens: Path, recommended: Mapping[int, TrialRecord], others: Sequence[TrialRecord] = ()
) -> ErrorMaps:
    """Maps of a few validation pictures from the stored tokens, of the recommended compressors and of `others`. Nothing
    missing stops it: it is named instead, where it is of a recommended one."""
    if not recommended:
        return ErrorMaps(absent=["no trial is complete"])
    try:
        store, pictures = TokenStore(tokens), _validation_pictures(settings, tokens)
    except ANYTHING as error:
        return ErrorMaps(absent=[f"the tokens or pictures are not there: {error}"])
    best, absent = _compressors(recommended)
    beside, _ = _compressors({r.trial_id: r for r in others[:MOST_OTHERS]})
    found = []
    for number in sorted({i * (len(pictures) - 1) // max(1, PICTURES - 1) for i in range(PICTURES)}) if best else ():
        key, digest, picture = pictures[number]
        try:
            found.append(_maps(settings, store, _unchanged(picture, digest), number, (best, beside)))
        except ANYTHING as error:
            absent.append(f"picture {key}: {error}")
    return ErrorMaps(found, absent)


def _validation_pictures(settings: Settings, tokens: Path) -> list[tuple[str, str, Picture | None]]:
    """Those that the store has tokens of: key, sha256, and the picture where one of that key is there. A listing of now
    may have others, and others in each split."""
    listed = {p.key: p for pictures in list_splits(settings.data).values() for p in pictures}
    encoded = (read_manifest(tokens) or {})["parts"]["pictures"]["val"]
    return [(key, digest, listed.get(key)) for key, digest in encoded]


def _unchanged(picture: Picture | None, digest: str) -> Picture:
    """Raises DataError where it is not what was encoded."""
    if picture is None or picture.sha256 != digest:
        raise DataError("is gone, or another one than its tokens are of")
    return picture


def _compressors(trials: Mapping[Key, TrialRecord]) -> tuple[dict[Key, TokenCompressor], list[str]]:
    """The compressor of each, and which are missing."""
    found, absent = {}, []
    for key, record in trials.items():
        try:
            found[key], _ = from_checkpoint(record.paths.latest)
        except ANYTHING as error:
            absent.append(f"{record.tokens} tokens: {error}")
    return found, absent


def _maps(
    settings: Settings,
    store: TokenStore,
    picture: Picture,
    number: int,
    compressors: tuple[Mapping[int, TokenCompressor], Mapping[str, TokenCompressor]],
) -> PictureErrorMaps:
    """Of the first crop of the validation picture with this number."""
    best, others = compressors
    pixels_3HW = crops(picture, settings.data, settings.encoder)[0]
    x_BNC = store.read("val", torch.tensor([number * settings.data.crops])).float()
    with torch.inference_mode():
        pooled = {n: c.unrecovered(x_BNC, grid.upsample(grid.pool(x_BNC, c.k), c.grid_size)) for n, c in best.items()}
        return PictureErrorMaps(
            picture.key,
            (denormalised(pixels_3HW, settings.encoder) * 255).round().astype(np.uint8),
            pooled={n: map_1gg[0].numpy() for n, map_1gg in pooled.items()},
            best={n: c.unrecovered(x_BNC)[0].numpy() for n, c in best.items()},
            others={trial_id: c.unrecovered(x_BNC)[0].numpy() for trial_id, c in others.items()},
        )


def denormalised(pixels_3HW: torch.Tensor, encoder: Normalisation) -> np.ndarray:
    """(H, W, 3) in [0, 1]: the picture as the encoder sees it."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    return (pixels_3HW * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()
