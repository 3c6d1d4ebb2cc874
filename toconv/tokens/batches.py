"""Token store → standardised batches on the device of the training."""

# B batch, I images of a split, N tokens of the grid, C channels

from collections.abc import Iterator, Sequence

import torch

from toconv.tokens.store import TokenStore

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
        self._held_INC: torch.Tensor | None = None

    @property
    def stated(self) -> str:
        """Where its batches come from."""
        if self.device.type != "cuda":
            return "tokens are read batch by batch"
        return (
            f"tokens {'stay on the GPU, in fp16' if self._fits() else 'travel to the GPU from pinned memory, in fp16'}"
        )

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
        for raw_BNC in self.raw(batches):
            x_BNC = raw_BNC.float()
            yield torch.addcmul(self._shift_C, x_BNC, self._scale_C, out=x_BNC)

    def raw(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The fp16 tokens of the images at each of `batches`, ascending indices, on the device. A batch lies in memory
        that the next one is read into. From a GPU that holds the split they are taken there; to any other GPU the next
        batch travels from pinned memory while this one is worked on."""
        if self.device.type == "cuda":
            yield from self._from_gpu(batches) if self._fits() else self._prefetched(batches)
            return
        kept_BNC = self._empty()
        for indices in batches:
            yield self.store.read(self.split, indices, out_BNC=kept_BNC[: len(indices)])

    def _empty(self, pinned: bool = False) -> torch.Tensor:
        size = (min(self.batch_size, self.images), self.store.grid_size**2, self.store.width)
        return torch.empty(size, dtype=torch.float16, pin_memory=pinned)

    def _fits(self) -> bool:
        size = self.images * self.store.grid_size**2 * self.store.width * 2
        return self._held_INC is not None or size < HELD_SHARE * torch.cuda.mem_get_info(self.device)[0]

    def _from_gpu(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        if self._held_INC is None:
            self._held_INC = self.store.read(self.split, torch.arange(self.images)).to(self.device)
        for indices in batches:
            yield self._held_INC.index_select(0, indices.to(self.device, non_blocking=True))

    def _prefetched(self, batches: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Two pinned buffers in turns and a stream for the copies, as PyTorch's notes on CUDA semantics describe."""
        copies = torch.cuda.Stream(self.device)
        slots = [(self._empty(pinned=True), torch.cuda.Event()) for _ in range(2)]
        ahead: torch.Tensor | None = None
        for number, indices in enumerate(batches):
            (pinned_BNC, copied), following = slots[number % 2], ahead
            copied.synchronize()  # of the batch before last: long done
            source_BNC = self.store.read(self.split, indices, out_BNC=pinned_BNC[: len(indices)])
            with torch.cuda.stream(copies):
                ahead = source_BNC.to(self.device, non_blocking=True)
                copied.record(copies)
            if following is not None:
                yield self._handed_over(following, slots[1 - number % 2][1])
        if ahead is not None:
            yield self._handed_over(ahead, slots[(len(batches) - 1) % 2][1])

    def _handed_over(self, raw_BNC: torch.Tensor, copied: torch.cuda.Event) -> torch.Tensor:
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(copied)
        raw_BNC.record_stream(stream)
        return raw_BNC
