"""Where on real pictures the information is lost: average pooling beside the best compressor of each k."""

# B = 1 image, N = g*g original tokens, C channels, H W pixels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from toconv.errors import ToconvError
from toconv.paths import TrialPaths
from toconv.sweep.records import TrialRecord

if TYPE_CHECKING:
    import numpy as np

    from toconv.module import TokenCompressor
    from toconv.settings import Settings
    from toconv.tokens.images import Picture
    from toconv.tokens.store import TokenStore

PICTURES = 3  # evenly spaced over the validation pictures, by their names
ANYTHING = (ToconvError, OSError, RuntimeError, ValueError, KeyError)  # that reading a picture or a checkpoint raises


@dataclass(frozen=True)
class LossMaps:
    """Of one picture: squared error of each token over the picture's variance, so that a map's mean is its FVU."""

    name: str
    image_HW3: np.ndarray  # uint8, as the encoder sees it
    pooled: Mapping[int, np.ndarray]  # {tokens: (g, g)}
    best: Mapping[int, np.ndarray]


@dataclass(frozen=True)
class Lost:
    """The maps, and why some are not there."""

    pictures: Sequence[LossMaps] = ()
    absent: Sequence[str] = field(default_factory=list)

    @property
    def most(self) -> float:
        """The end of the colour scale that all maps share: 98 % of their tokens lie below."""
        import numpy as np

        every = [m.ravel() for p in self.pictures for maps in (p.pooled, p.best) for m in maps.values()]
        return float(np.quantile(np.concatenate(every), 0.98))


def where_lost(settings: Settings, tokens: Path, recommended: Mapping[int, TrialRecord]) -> Lost:
    """Maps of a few validation pictures from the stored tokens. Nothing missing stops it: it is named instead."""
    if not recommended:
        return Lost(absent=["no trial is complete"])
    try:
        from toconv.tokens.images import list_splits
        from toconv.tokens.store import TokenStore

        store, pictures = TokenStore(tokens), list_splits(settings.data)["val"]
    except ANYTHING as error:
        return Lost(absent=[f"the tokens or pictures are not there: {error}"])
    best, absent = _compressors(recommended)
    found = []
    for number in sorted({i * (len(pictures) - 1) // max(1, PICTURES - 1) for i in range(PICTURES)}) if best else ():
        try:
            found.append(_maps(settings, store, pictures[number], number, best))
        except ANYTHING as error:
            absent.append(f"picture {pictures[number].key}: {error}")
    return Lost(found, absent)


def _compressors(recommended: Mapping[int, TrialRecord]) -> tuple[dict[int, TokenCompressor], list[str]]:
    """{tokens: its compressor}, and which are missing."""
    from toconv.export import from_checkpoint

    found, absent = {}, []
    for tokens, record in recommended.items():
        try:
            found[tokens], _ = from_checkpoint(TrialPaths(record.folder).latest)
        except ANYTHING as error:
            absent.append(f"{tokens} tokens: {error}")
    return found, absent


def _maps(settings: Settings, store: TokenStore, picture: Picture, number: int, best: Mapping[int, TokenCompressor]
          ) -> LossMaps:
    """Of the first crop of the validation picture with this number."""
    import torch

    from toconv import grid
    from toconv.tokens.images import crops

    pixels_3HW = crops(picture, settings.data, settings.encoder)[0]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (settings.encoder.mean, settings.encoder.std))
    image_HW3 = ((pixels_3HW * std + mean).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    x_BNC = store.read("val", torch.tensor([number * settings.data.crops])).float()
    with torch.inference_mode():
        pooled = {n: c.unrecovered(x_BNC, grid.upsample(grid.pool(x_BNC, c.k), c.grid_size)) for n, c in best.items()}
        found = {n: c.unrecovered(x_BNC) for n, c in best.items()}
    return LossMaps(picture.key, image_HW3, *({n: map_1gg[0].numpy() for n, map_1gg in maps.items()}
                                              for maps in (pooled, found)))
