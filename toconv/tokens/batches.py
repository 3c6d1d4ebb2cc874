"""Token store → standardised batches on the device of the training."""

# B batch, I images of a split, N tokens of the grid, C channels

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from toconv.tokens.store import TokenStore
from toconv.tokens.stored import Stored, bytes_of_image

HELD_SHARE = 0.25  # of a GPU's free memory that one split of the tokens may take, to be read once and kept there


class Batches:
    """One split of a store as (B, N, C) float32 batches, each channel standardised on the training split."""

    def __init__(self, store: TokenStore, split: str, batch_size: int, device: torch.device) -> None:
        self.store, self.split, self.batch_size, self.device = store, split, batch_size, device
        self.at_once = batch_size  # images that are read in their order; `shuffled` has batches of `batch_size`
        self.images = store.count(split)
        self._mean_C = store.mean_C.to(device)
        self._scale_C = store.std_C.to(device).reciprocal()
        self._shift_C = -self._mean_C * self._scale_C
        self._held: Stored | None = None

    @property
    def stated(self) -> str:
        """Where its batches come from."""
        if self.device.type != "cuda":
            return "tokens are read batch by batch"
        where = "stay on the GPU" if self._fits() else "travel to the GPU from pinned memory"
        return f"tokens {where}, in {self.store.dtype}"

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)

    def shuffled(self, generator: torch.Generator, done: int = 0) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once, in batches drawn with `generator`, each with its images' indices (B,), but for the first
        `done` batches; the last one may be smaller. Within a batch the images stand in the store's order: nothing
        depends on it, and each shard is read at once."""
        order = torch.randperm(self.images, generator=generator)
        batches = [indices.sort().values for indices in order.split(self.batch_size)[done:]]
        return zip(batches, self._standardised(batches), strict=True)

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Every image once, in the store's order."""
        return self.at(torch.arange(self.images))

    def at(self, indices: torch.Tensor) -> Iterator[torch.Tensor]:
        """The images at ascending `indices`."""
        return self._standardised(indices.split(self.at_once))

    def _standardised(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        for found in self._stored(batches):
            x_BNC = found.values_INC.float()
            shift, scale = self._shift_and_scale(found)
            yield torch.addcmul(shift, x_BNC, scale, out=x_BNC)

    def _shift_and_scale(self, found: Stored) -> tuple[torch.Tensor, torch.Tensor]:
        """What makes standardised tokens of what is stored: one product and one sum, of int8 too."""
        if found.scales_I2C is None:
            return self._shift_C, self._scale_C
        offset_B1C, scale_B1C = found.scales_I2C.split(1, dim=1)
        return torch.addcmul(self._shift_C, offset_B1C, self._scale_C), scale_B1C * self._scale_C

    def raw(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The tokens of the images at each of `batches`, ascending indices, on the device, as `TokenStore.read` has
        them. A batch lies in memory that the next one is read into."""
        return (found.raw() for found in self._stored(batches))

    def _stored(self, batches: Sequence[torch.Tensor]) -> Iterator[Stored]:
        """As they are stored, on the device. From a GPU that holds the split they are taken there; to any other GPU the
        next batch travels from pinned memory while this one is worked on."""
        if self.device.type == "cuda":
            yield from self._from_gpu(batches) if self._fits() else self._prefetched(batches)
            return
        kept = self._empty()
        for indices in batches:
            yield self._read(indices, kept)

    def _read(self, indices: torch.Tensor, kept: Stored) -> Stored:
        return self.store.read_stored(self.split, indices, kept.each(lambda x: x[: len(indices)]))

    def _empty(self, pinned: bool = False) -> Stored:
        return self.store.empty(min(self.batch_size, self.images), pinned)

    def _fits(self) -> bool:
        size = self.images * bytes_of_image(self.store.grid_size**2, self.store.width, self.store.dtype)
        return self._held is not None or size < HELD_SHARE * torch.cuda.mem_get_info(self.device)[0]

    def _from_gpu(self, batches: Sequence[torch.Tensor]) -> Iterator[Stored]:
        if self._held is None:
            whole = self.store.empty(self.images)
            self._held = self._read(torch.arange(self.images), whole).each(lambda x: x.to(self.device))
        for indices in batches:
            yield self._held.each(partial(torch.index_select, dim=0, index=indices.to(self.device, non_blocking=True)))

    def _prefetched(self, batches: Sequence[torch.Tensor]) -> Iterator[Stored]:
        """Two pinned buffers in turns and a stream for the copies, as PyTorch's notes on CUDA semantics describe."""
        copies = torch.cuda.Stream(self.device)
        slots = [(self._empty(pinned=True), torch.cuda.Event()) for _ in range(2)]
        ahead: Stored | None = None
        for number, indices in enumerate(batches):
            (pinned, copied), following = slots[number % 2], ahead
            copied.synchronize()  # of the batch before last: long done
            source = self._read(indices, pinned)
            with torch.cuda.stream(copies):
                ahead = source.each(lambda x: x.to(self.device, non_blocking=True))
                copied.record(copies)
            if following is not None:
                yield self._handed_over(following, slots[1 - number % 2][1])
        if ahead is not None:
            yield self._handed_over(ahead, slots[(len(batches) - 1) % 2][1])

    def _handed_over(self, found: Stored, copied: torch.cuda.Event) -> Stored:
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        for x in found:
            if x is not None:
                x.record_stream(stream)
        return found
