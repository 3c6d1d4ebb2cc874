"""How many images a step works on at a time, where its batch is more than the memory holds.

Gradients of the parts add up to those of the batch, and one optimizer step follows: batch size, draws and losses keep
their meaning. Nothing in a step is a statistic of the batch but means over its images or samples, so that a divided
step differs from the whole one by the rounding of its sums. `auto` is what Composer calls
device_train_microbatch_size=auto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from toconv.errors import out_of_memory

Found = TypeVar("Found")


@dataclass
class CompressedBatch:
    """The tokens that a compressor made of a batch; `traced_BMC` are the same ones with its graph, as long as the batch
    is not divided."""

    z_BMC: torch.Tensor
    traced_BMC: torch.Tensor | None

    def let_go(self) -> None:
        """Of what the graph holds."""
        self.traced_BMC = None


class MicroBatches:
    """At most `size` images at a time; with `auto` the whole batch, and half as many whenever memory runs out."""

    def __init__(self, asked: int | Literal["auto"] | None, batch_size: int) -> None:
        self._halves, self._batch_size = asked == "auto", batch_size
        self.size = min(asked, batch_size) if isinstance(asked, int) else batch_size

    @property
    def divides(self) -> bool:
        return self.size < self._batch_size

    @property
    def stated(self) -> str:
        whole = f"batches of {self._batch_size} images"
        how = f", {self.size} at a time" if self.divides else ""
        return whole + how + (", in halves where memory runs out" if self._halves else "")

    def count(self, images: int) -> int:
        """Parts of a batch of so many images."""
        return -(-images // self.size)

    def parts(self, images: int) -> Iterator[slice]:
        return (slice(start, min(start + self.size, images)) for start in range(0, images, self.size))

    def go_on_with(self, size: int | None) -> None:
        """At most what a checkpoint of the same training has come to."""
        if self._halves and size is not None:
            self.size = min(self.size, size)

    def attempt(self, work: Callable[[], Found], let_go: Callable[[], None] = lambda: None) -> Found:
        """What `work` gives at this size, or at the first half of it that memory is enough for. `work` begins anew each
        time and must leave nothing behind when it fails but gradients, which it clears itself; `let_go` is called
        before. Raises what `work` raises where a single image is too much, and in the capture of a CUDA graph."""
        while True:
            try:
                return work()
            except Exception as error:
                capturing = torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
                if capturing or not (self._halves and self.size > 1 and out_of_memory(error)):
                    raise
            self.size = -(-self.size // 2)  # here, where the error and the tensors of its frames are gone
            let_go()
            torch.cuda.empty_cache()
