"""Missing shards of a token store, encoded by whoever claims them: this process, others, or tasks on other devices."""

# B batch, I images of a shard, N tokens of an image, P prefix tokens beside them, C channels

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from toconv.errors import disk
from toconv.hardware import resolve_device
from toconv.object_store import ObjectStore
from toconv.progress import bar, say
from toconv.settings import Settings, StoreSettings
from toconv.tokens.encoders import FrozenEncoder, load_encoder
from toconv.tokens.images import Picture
from toconv.tokens.remote import send_shard
from toconv.tokens.shards import Claims, Shard, write_shard
from toconv.tokens.standardisation import sums
from toconv.tokens.stored import encoded_dtype, stored

if TYPE_CHECKING:
    from toconv.tokens.pixels import Views

POLL_SECONDS = 0.5
WRITERS = 2  # threads that write shards: one hashes as many bytes a second as a GPU of 2023 makes

Advance = Callable[[int], object]  # told of so many images more
Look = Callable[[Iterable[Shard]], object]  # told of shards that others have, or have finished


class Helper(Protocol):
    """Another device at work on the same shards."""

    def ended(self) -> bool: ...

    def failure(self) -> str | None:
        """Why one that ended did not do its work."""


def encode_missing(settings: Settings, claims: Claims, missing: Sequence[Shard], helpers: Sequence[Helper]) -> None:
    """Until each of the shards is there. While `helpers` work this process watches; what they leave it encodes itself.
    Raises DataError where a picture cannot be read, EncoderError, or MachineryError (a full disk)."""
    encoder, images = _Encoder(settings), {s.name: len(s.pictures) * settings.data.crops for s in missing}
    with bar("images") as progress:
        task = progress.add_task(f"encoding with {settings.encoder.name}", total=sum(images.values()))
        left, working, finished = list(missing), list(helpers), set[str]()

        def advance(count: int) -> None:
            progress.advance(task, count)

        def look(others: Iterable[Shard]) -> None:
            for shard in others:
                if shard.name not in finished and claims.is_finished(shard):
                    finished.add(shard.name)
                    advance(images[shard.name])

        while left:
            working = [helper for helper in working if not has_ended(helper)]
            mine = [] if working else [s.name for s in encode_free(encoder, claims, left, advance, look)]
            others = [shard for shard in left if shard.name not in mine]
            claims.look_elsewhere(others)
            look(others)
            left = [shard for shard in others if shard.name not in finished]
            if left and not mine:
                time.sleep(POLL_SECONDS)


def has_ended(helper: Helper) -> bool:
    """Says why, where it did not do its work."""
    if not helper.ended():
        return False
    if why := helper.failure():
        say(f"a device stopped encoding ({why}); its shard is encoded elsewhere")
    return True


def encode_share(settings: Settings, claims: Claims, missing: Sequence[Shard]) -> None:
    """What one device of several encodes: shards that nobody else has, until there are none."""
    with disk(f"{claims.folder}: cannot be written"):
        claims.folder.mkdir(parents=True, exist_ok=True)  # on a machine that does not see the driver's
    encode_free(_Encoder(settings), claims, missing, lambda images: None)


class _Encoded(NamedTuple):
    """What an encoder made of images, on the host."""

    tokens_INC: torch.Tensor  # fp16, or bf16 where they are stored so
    prefix_IPC: torch.Tensor  # fp16, what stands before the tokens
    sums_2C: torch.Tensor


class _Encoder:
    """Loaded by the first batch."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self._device = settings, resolve_device(settings.hardware)
        self._encoder: FrozenEncoder | None = None

    def __call__(self, pixels_B3HW: torch.Tensor) -> _Encoded:
        if self._encoder is None:
            self._encoder = load_encoder(self.settings.encoder, self._device)
        tokens_BNC, prefix_BPC = self._encoder(pixels_B3HW.to(self._device))
        tokens_BNC = tokens_BNC.to(encoded_dtype(self.settings.store.dtype))
        return _Encoded(tokens_BNC.cpu(), prefix_BPC.to(torch.float16).cpu(), sums(tokens_BNC).cpu())


class _Claimed(NamedTuple):
    """A shard that is this process's alone to encode until it is let go."""

    shard: Shard
    release: ExitStack


def encode_free(
    encoder: _Encoder, claims: Claims, shards: Sequence[Shard], advance: Advance, look: Look = lambda others: None
) -> list[Shard]:
    """Those that were free, which now are there; after each `look` is given those that were not.
    Beside the encoder the next one's pictures are decoded, and the last one's tokens written."""
    from toconv.tokens.pixels import pixels_at  # start-up: torchvision, where nothing is encoded

    asked, ahead, mine = encoder.settings, deque[_Claimed](), list[Shard]()
    others = list[Shard]()
    with (
        ExitStack() as held,
        ThreadPoolExecutor(WRITERS) as pool,
        closing(_one_ahead(_claimed(claims, claims.in_turn(shards), held, others))) as coming,
    ):
        pictures = _pictures(coming, ahead)
        views, writing = (
            pixels_at(pictures, asked.data, asked.encoder, [asked.encoder.image_size]),
            deque[Future[None]](),
        )
        for first in views:
            claimed = ahead.popleft()
            of_shard = itertools.chain([first], itertools.islice(views, len(claimed.shard.pictures) - 1))
            encoded, shapes = _encoded(encoder, of_shard, advance)
            if len(writing) == WRITERS:
                writing.popleft().result()
            writing.append(pool.submit(_write, claims, claimed, encoded, shapes, asked.store))
            mine.append(claimed.shard)
            look([*others])
        for last in writing:
            last.result()
    return mine


def _claimed(claims: Claims, shards: Sequence[Shard], held: ExitStack, others: list[Shard]) -> Iterator[_Claimed]:
    """`held` lets all of them go where somebody fails. `others` gets those that are not free."""
    for shard in shards:
        release = held.enter_context(ExitStack())
        if release.enter_context(claims.claimed(shard)):
            yield _Claimed(shard, release)
        else:
            release.close()
            others.append(shard)


def _one_ahead(claimed: Iterator[_Claimed]) -> Generator[_Claimed]:
    """To claim one takes an object store several answers."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, claimed, None)
        while found := following.result():
            following = pool.submit(next, claimed, None)
            yield found


def _pictures(shards: Iterable[_Claimed], ahead: deque[_Claimed]) -> Iterator[Picture]:
    """Of all shards in a row; each is claimed, and stands in `ahead`, when its first picture is asked for."""
    for claimed in shards:
        ahead.append(claimed)
        yield from claimed.shard.pictures


def _encoded(encoder: _Encoder, of_shard: Iterable[Views], advance: Advance) -> tuple[_Encoded, list[tuple[int, int]]]:
    """Of all pictures of a shard, and the pictures' shapes."""
    shapes, found = list[tuple[int, int]](), list[_Encoded]()
    for pixels_B3HW in encoder_batches(_crops(of_shard, shapes), encoder.settings.encoder.batch_size):
        found.append(encoder(pixels_B3HW))
        advance(len(pixels_B3HW))
    tokens, prefixes, of_batches = zip(*found, strict=True)
    return _Encoded(torch.cat(tokens), torch.cat(prefixes), torch.stack(of_batches).sum(0)), shapes


def _write(
    claims: Claims, claimed: _Claimed, encoded: _Encoded, shapes: list[tuple[int, int]], asked: StoreSettings
) -> None:
    with claimed.release:
        tokens = stored(encoded.tokens_INC, asked.dtype)
        parts = (tokens, encoded.prefix_IPC, shapes, encoded.sums_2C, claims.encoder)
        write_shard(claims.folder, claimed.shard, *parts)
        if remote := ObjectStore.asked(asked):
            send_shard(remote, claims.folder, claimed.shard.name)


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
