"""Missing shards of a token store, encoded by whoever claims them: this process, others, or tasks on other devices."""

# B batch, N tokens of an image, P prefix tokens beside them, C channels

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch

from toconv.hardware import resolve_device
from toconv.progress import bar, say
from toconv.settings import Settings
from toconv.tokens.encoders import FrozenEncoder, load_encoder
from toconv.tokens.shards import Claims, Shard, write_shard

if TYPE_CHECKING:
    from toconv.tokens.pixels import Views

POLL_SECONDS = 0.5

Advance = Callable[[int], object]  # told of so many images more


class Helper(Protocol):
    """Another device at work on the same shards."""

    def ended(self) -> bool: ...

    def failure(self) -> str | None:
        """Why one that ended did not do its work."""


def encode_missing(settings: Settings, claims: Claims, missing: Sequence[Shard], helpers: Sequence[Helper]) -> int:
    """Until each of the shards is there. While `helpers` work this process watches; what they leave it encodes itself:
    so many images. Raises DataError where a picture cannot be read, EncoderError, or MachineryError (a full disk)."""
    encoder, images = _Encoder(settings), {s.name: len(s.pictures) * settings.data.crops for s in missing}
    with bar("images") as progress:
        task = progress.add_task(f"encoding with {settings.encoder.name}", total=sum(images.values()))
        left, working, own = list(missing), list(helpers), 0
        while left:
            working = [helper for helper in working if not _has_ended(helper)]
            mine = [] if working else encode_free(encoder, claims, left, lambda n: progress.advance(task, n))
            own += sum(images[shard.name] for shard in mine)
            finished = [shard for shard in left if shard not in mine and claims.is_finished(shard)]
            progress.advance(task, sum(images[shard.name] for shard in finished))
            left = [shard for shard in left if shard not in (*mine, *finished)]
            if left and not mine:
                time.sleep(POLL_SECONDS)
    return own


def _has_ended(helper: Helper) -> bool:
    if not helper.ended():
        return False
    if why := helper.failure():
        say(f"a device stopped encoding ({why}); its shard is encoded elsewhere")
    return True


def encode_share(settings: Settings, claims: Claims, missing: Sequence[Shard]) -> None:
    """What one device of several encodes: shards that nobody else has, until there are none."""
    encode_free(_Encoder(settings), claims, missing, lambda images: None)


class _Encoder:
    """Pictures → tokens and what stands before them, both in fp16 on the host; loaded by the first shard."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self._device = settings, resolve_device(settings.hardware)
        self._encoder: FrozenEncoder | None = None

    def __call__(self, pixels_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self._encoder is None:
            self._encoder = load_encoder(self.settings.encoder, self._device)
        tokens_BNC, prefix_BPC = self._encoder(pixels_B3HW.to(self._device))
        return tokens_BNC.to(torch.float16).cpu(), prefix_BPC.to(torch.float16).cpu()


def encode_free(encoder: _Encoder, claims: Claims, shards: Sequence[Shard], advance: Advance) -> list[Shard]:
    """Those that were free, which now are there."""
    mine = []
    for shard in shards:
        with claims.claimed(shard) as is_mine:
            if is_mine:
                _encode(encoder, claims.folder, shard, advance)
                mine.append(shard)
    return mine


def _encode(encoder: _Encoder, folder: Path, shard: Shard, advance: Advance) -> None:
    from toconv.tokens.pixels import pixels_at  # start-up: torchvision, where nothing is encoded

    asked, shapes = encoder.settings, list[tuple[int, int]]()
    views = pixels_at(shard.pictures, asked.data, asked.encoder, [asked.encoder.image_size])
    found = []
    for pixels_B3HW in encoder_batches(_crops(views, shapes), asked.encoder.batch_size):
        found.append(encoder(pixels_B3HW))
        advance(len(pixels_B3HW))
    tokens, prefixes = zip(*found, strict=True)
    write_shard(folder, shard, torch.cat(tokens), torch.cat(prefixes), shapes)


def _crops(pictures: Iterable[Views], shapes: list[tuple[int, int]]) -> Iterator[torch.Tensor]:
    """The crops of each, at the one size; `shapes` gets the pictures' own."""
    for views in pictures:
        shapes.append(views.shape)
        yield views.at_size[0]


def encoder_batches(pictures: Iterable[torch.Tensor], size: int) -> Iterable[torch.Tensor]:
    """Crops of all pictures in a row, `size` at a time."""
    waiting: list[torch.Tensor] = []
    for crops in pictures:
        waiting += crops.unbind(0)
        while len(waiting) >= size:
            yield torch.stack(waiting[:size])
            del waiting[:size]
    if waiting:
        yield torch.stack(waiting)
