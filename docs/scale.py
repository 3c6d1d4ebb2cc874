"""docs/scale.md's tables: encoding and reading on 1, 8 and 64 GPUs, on paper. `python docs/scale.py` writes them.

What was measured is read where it stands, or stands here alone; the rest is assumed, and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import NamedTuple

import torch

from benchmarks.gpu.encoder import PlainViT
from benchmarks.gpu.scale import CARD
from toconv.models.cost import flops_of
from toconv.progress import duration
from toconv.sweep.file import Sweep, load_sweep
from toconv.sweep.plan import trial_cost
from toconv.tokens.batches import HELD_SHARE
from toconv.tokens.encode_shards import WRITERS
from toconv.tokens.room import estimated_bytes
from toconv.tokens.stored import bytes_of_image

DOCS = Path(__file__).parent
PAGE = DOCS / "scale.md"
BEGIN, END = "<!-- written by python docs/scale.py -->\n", "<!-- until here -->\n"
SWEEP = DOCS.parent / "sweeps" / "imagenet_vit_l_14_336.yaml"
PICTURES, GPUS = (100_000, 1_280_000), (1, 8, 64)
SHOWN_K, ENCODER = 6, "the encoder"


@dataclass(frozen=True)
class Measured:
    """On a CPU of two cores. Bytes are a second's."""

    read: float  # of tokens from the memory map, by one process
    step_share: float  # of a training step that its matrix products take alone
    decode: float  # seconds of a core, a photograph
    start: float  # seconds of a sweep, beside its trials
    trial: float  # seconds that a trial adds to it, of one tiny step
    # CPU time of one thread on 28 MB of fp16, C = 1024, 2026-11-29, other work beside; the CPU has SHA instructions
    sha256: float = 1.1e9


@dataclass(frozen=True)
class Assumed:
    """Of machines that we did not have. Bytes are a second's."""

    flops: float = 989e12  # of an H100 SXM in bf16, dense, by its data sheet
    share: float = 0.4  # of them that matrix products of these sizes reach
    gpu_memory: float = 80e9
    gpus: int = 8  # of a machine
    memory: float = 1e12  # bytes of a machine that may hold what was read
    local_disk: float = 20e9  # a machine
    network: float = 10e9  # a machine, to the shared disk
    shared_disk: float = 40e9  # to all machines together
    picture: float = 110e3  # bytes of a JPEG of ImageNet
    workers: int = 8  # data.workers


def measured() -> Measured:
    """Where docs/performance.md and docs/log.md have it."""
    performance, log = ((DOCS / f"{name}.md").read_text() for name in ("performance", "log"))
    (read,) = numbers(r"([\d.]+) GB/s, memcpy", performance)
    (share,) = numbers(r"Training step against its matrix products, C=1024 \| ([\d.]+)", performance)
    start, trial = numbers(r"([\d.]+) s \+ ([\d.]+) s a trial", performance)
    decoder, pipe = numbers(r"Pillow ([\d.]+) ms in the decoder's process and ([\d.]+) ms", log)
    return Measured(1e9 * read, share, 1e-3 * (decoder + pipe), start, trial)


def numbers(pattern: str, text: str) -> list[float]:
    found = re.search(pattern, text)
    assert found, pattern
    return [float(number) for number in found.groups()]


class Work(NamedTuple):
    """What the sweep asks of a machine."""

    encoder_flops: float  # a picture
    stored: float  # bytes of a picture in the store
    read: float  # bytes of a picture that a training reads
    batch: int
    step_flops: dict[int, float]  # by k
    pictures: int  # of an epoch
    epochs: int


def work(sweep: Sweep) -> Work:
    base, shape = sweep.base, CARD.encoder
    with torch.device("meta"):
        model = PlainViT(shape)
        picture = torch.zeros(1, 3, shape.image_size, shape.image_size)
        head = PlainViT(shape)
        head.blocks = head.blocks[:0]
    first, every = flops_of(head, picture), flops_of(model, picture)
    run = 1 + base.encoder.layer % shape.blocks  # blocks, up to the layer whose tokens are taken
    return Work(
        first + (every - first) * run / shape.blocks,
        estimated_bytes(base, 1),
        bytes_of_image(base.encoder.grid_size**2, base.encoder.width, base.store.dtype),
        base.training.batch_size,
        {k: trial_cost(base, k, base.data.train_pictures or 0).step_flops for k in sweep.grid_sizes()},
        base.data.train_pictures or 0,
        base.training.epochs,
    )


@cache
def of_the_sweep(dtype: str = "fp16") -> Work:
    return work(load_sweep(SWEEP, ["data.imagenet_root=ROOT", f"store.dtype={dtype}"]))


class Encoding(NamedTuple):
    """Seconds of one part after the other."""

    hashing: float  # of all pictures, by the driver
    parts: dict[str, float]  # of that which follows, each beside the others

    @property
    def longest(self) -> str:
        return max(self.parts, key=lambda name: self.parts[name])

    @property
    def whole(self) -> float:
        return self.hashing + self.parts[self.longest]


def encoding(pictures: int, gpus: int, of: Work, m: Measured, a: Assumed) -> Encoding:
    """A device takes pictures by the slowest of its encoder, its decoders and its writers, each of which hashes a
    shard, then writes it. The sums of a shard's tokens, on the GPU, are not counted."""
    written = 1 / from_shared(gpus, a)
    each = {
        ENCODER: of.encoder_flops / (a.flops * a.share),
        "decoding": m.decode / a.workers,
        "writing": of.stored * max(written, (1 / m.sha256 + written) / WRITERS),
    }
    return Encoding(
        pictures * a.picture / min(m.sha256 * a.workers, a.network),
        {name: pictures * seconds / gpus for name, seconds in each.items()},
    )


def from_shared(gpus: int, a: Assumed) -> float:
    """Bytes a second for each GPU."""
    machines = ceil(gpus / a.gpus)
    return min(a.network, a.shared_disk / machines) / min(gpus, a.gpus)


def step_seconds(k: int, of: Work, m: Measured, a: Assumed) -> float:
    return of.step_flops[k] / (a.flops * a.share * m.step_share)


def needed(k: int, of: Work, m: Measured, a: Assumed) -> float:
    """Bytes a second that a GPU reads where nothing holds it up."""
    return of.batch * of.read / step_seconds(k, of, m, a)


def supplies(pictures: int, gpus: int, of: Work, m: Measured, a: Assumed) -> dict[str, float]:
    """Bytes a second for each GPU, by where the tokens lie."""
    lie = {"memory": m.read} if pictures * of.stored <= a.memory else {}
    own = min(m.read, a.local_disk / min(gpus, a.gpus))
    return {**lie, "own disk": own, "shared disk": min(m.read, from_shared(gpus, a))}


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def encoding_rows(of: Work, m: Measured, a: Assumed) -> Iterator[Sequence[str]]:
    for pictures in PICTURES:
        for gpus in GPUS:
            found = encoding(pictures, gpus, of, m, a)
            seconds = (found.hashing, *found.parts.values(), found.whole)
            stored = f"{pictures * of.stored / 1e9:,.0f} GB"
            yield (f"{pictures:,}", str(gpus), stored, *map(duration, seconds), found.longest)


def step_rows(of: Work, m: Measured, a: Assumed) -> Iterator[Sequence[str]]:
    for k, flops in of.step_flops.items():
        seconds = step_seconds(k, of, m, a)
        yield str(k), f"{flops / 1e12:.2f}", f"{1e3 * seconds:.1f} ms", f"{needed(k, of, m, a) / 1e9:.1f} GB/s"


def reading_rows(of: Work, m: Measured, a: Assumed) -> Iterator[Sequence[str]]:
    for pictures in PICTURES:
        for gpus in GPUS:
            for where, supply in supplies(pictures, gpus, of, m, a).items():
                share = min(1.0, supply / needed(SHOWN_K, of, m, a))
                epoch = pictures / of.batch * step_seconds(SHOWN_K, of, m, a) / share
                found = f"{supply / 1e9:.1f} GB/s", f"{100 * share:.0f} %", duration(epoch)
                yield f"{pictures:,}", str(gpus), where, *found


def assumptions(of: Work, m: Measured, a: Assumed) -> Iterator[str]:
    yield (
        f"Measured: a process reads {m.read / 1e9:g} GB/s of tokens from memory; {m.step_share:g} of a step is its "
        f"matrix products; a photograph takes {1e3 * m.decode:.1f} ms of a core to decode; a thread hashes "
        f"{m.sha256 / 1e9:g} GB/s."
    )
    yield (
        f"Assumed: an H100 with {a.flops / 1e12:g} TFLOP/s in bf16 (dense, its data sheet), of which matrix products "
        f"reach {a.share:g}, and {a.gpu_memory / 1e9:g} GB; machines of {a.gpus} of them, with cores for all "
        f"decoders and writers, {a.memory / 1e12:g} TB of memory for what was read, {a.local_disk / 1e9:g} GB/s from "
        f"their own disks and {a.network / 1e9:g} GB/s from a shared disk, which gives {a.shared_disk / 1e9:g} GB/s to "
        f"all; JPEGs of {a.picture / 1e3:g} KB; `data.workers={a.workers}`; tokens written to the shared disk, "
        f"{WRITERS} shards of a GPU at a time, and read from it once where several machines read them from their own "
        "(`store.local_cache_gb`)."
    )
    yield (
        f"Counted: the encoder takes {of.encoder_flops / 1e12:.2f} TFLOP a picture up to its layer, and leaves "
        f"{of.stored / 1e6:.2f} MB; a batch has {of.batch} pictures; n_critic is that of the defaults."
    )


def from_memory(m: Measured, a: Assumed) -> str:
    """What the tables take of `supplies` for granted."""
    return (
        f"From memory every GPU is given the {m.read / 1e9:g} GB/s of one process, measured with batches of 28 MB. "
        f"That the rate adds up over the {a.gpus} processes of a machine, to "
        f"{a.gpus * m.read / 1e9:.0f} GB/s, is assumed and was not measured; where memory gives less, they share it."
    )


def of_the_driver(of: Work, m: Measured) -> str:
    """What trials cost it, where GPUs read from memory and wait for nothing else."""
    seconds = of.epochs * of.pictures * of.read / m.read
    return (
        f"A trial of that sweep ({of.epochs} epochs of {of.pictures:,} pictures) takes at least {duration(seconds)}, "
        f"to read its tokens from memory; a tiny trial adds {m.trial:g} s to a sweep. If all of that is the driver's, "
        f"it keeps up with {seconds / m.trial:,.0f} trials at a time."
    )


def written() -> str:
    """What stands between the two marks."""
    (of, of_int8), m, a = map(of_the_sweep, ("fp16", "int8")), measured(), Assumed()
    held = int(HELD_SHARE * a.gpu_memory / of.read)
    encoded = ("store", "hashing pictures", ENCODER, "decoding", "writing", "in all", "held up by")
    read = ("tokens lie in", "a GPU gets", "it computes", "an epoch")
    parts = [
        *assumptions(of, m, a),
        "### Encoding",
        table(("pictures", "GPUs", *encoded), encoding_rows(of, m, a)),
        "### A step",
        table(("k", "TFLOP", "takes", "reads"), step_rows(of, m, a)),
        f"A split of at most {held:,} pictures stays on the GPU and is read once.",
        f"### Training at k = {SHOWN_K}, a trial on each GPU",
        from_memory(m, a),
        table(("pictures", "GPUs", *read), reading_rows(of, m, a)),
        f"With `store.dtype=int8` a picture leaves {of_int8.stored / 1e6:.2f} MB:",
        table(("pictures", "GPUs", *read), reading_rows(of_int8, m, a)),
        "### The driver",
        of_the_driver(of, m),
    ]
    return "\n\n".join(part if part.startswith("|") else fill(part, 120, break_on_hyphens=False) for part in parts)


def replaced(page: str) -> str:
    """The page with its tables anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{written()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text()))
