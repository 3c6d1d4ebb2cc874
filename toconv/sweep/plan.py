"""`--dry-run`: what a sweep would do, and what it would need. Starts nothing, writes nothing."""

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from rich.table import Table
from torch import nn

from toconv.errors import MachineryError, RequestError
from toconv.hardware import memory_of, mixed_precision, resolve_device
from toconv.models.cost import parameters
from toconv.models.critic import Critic, build_critic
from toconv.models.families import build_networks, match, matched_text
from toconv.object_store import ObjectStore
from toconv.paths import SweepPaths, free_bytes
from toconv.progress import console, duration, phase, say, size
from toconv.settings import (
    AGREEMENT_WEIGHT,
    BLOCK_NEEDED,
    GRID_SIZE,
    NESTED,
    CompressorSettings,
    DataSettings,
    Settings,
)
from toconv.sweep.baselines import smaller_sizes
from toconv.sweep.feasible import refusals
from toconv.sweep.file import Sweep
from toconv.sweep.fits import check_fits, having, usable, without_gpu
from toconv.sweep.growth import Change
from toconv.sweep.lock import check_alone
from toconv.sweep.own_measure import OwnMeasure
from toconv.sweep.ray_address import check_cluster, joined, said
from toconv.sweep.request import check_request
from toconv.sweep.terminal.changes import show_changes
from toconv.tokens.encoder_files import check_files
from toconv.tokens.encoding import check_pictures, store_folder, unfinished
from toconv.tokens.images import Splits, list_splits
from toconv.tokens.manifest import is_complete
from toconv.tokens.readable import decoding_at_most
from toconv.tokens.room import check_room, estimated_bytes
from toconv.tracking.tracker import check_access, say_store
from toconv.training.step_cost import step_flops

MOST_DECODED = 500  # pictures that are decoded to list them: 16 ms of a core each, of photographs
OF_A_NUMBER = 16  # bytes that a parameter takes: itself, its gradient and both moments of Adam, in fp32
SLOWDOWN = 3.2  # a sweep's seconds over those of its steps' matrix products alone, as seen on two cores


@dataclass(frozen=True)
class Cost:
    """Of one trial."""

    parameters: int
    step_flops: int  # one generator step and its critic steps
    checkpoint_bytes: int


def check_trials_room(sweep: Sweep, paths: SweepPaths) -> None:
    """Raises MachineryError where the disk has no room for the checkpoints of one trial, RequestError where a cell's
    compressor cannot cost what it is to match."""
    matched(sweep)
    if joined() is None:
        check_memory(sweep.base, sweep.grid_sizes())
    largest = max(checkpoint_bytes(networks(sweep.base, k)) for k in sweep.grid_sizes())
    needed, free = _names(sweep.base) * largest, free_bytes(paths.root)
    if needed > free:
        raise MachineryError(
            f"{paths.root}: a trial's checkpoints take {size(needed)}, but {size(free)} are "
            "free on its disk; free some, or make a model's width or training.keep_last_n smaller"
        )


def check_memory(base: Settings, sizes: Iterable[int]) -> None:
    """Raises RequestError where this machine could not hold the networks of one training."""
    device = resolve_device(base.hardware)
    numbers, present = max(parameters(*networks(base, k)) for k in sizes), memory_of(device)
    if OF_A_NUMBER * numbers > present:
        raise RequestError(
            f"model: its networks have {numbers:,} parameters, which take {size(OF_A_NUMBER * numbers)} "
            f"while they are trained; {device.type} has {size(present)}. Make a width or blocks smaller"
        )


def matched(sweep: Sweep) -> list[str]:
    """What `model.compressor.match` comes to with each of its settings, a line each."""
    c, g = sweep.base.encoder.width, sweep.base.encoder.grid_size
    return [matched_text(asked, match(asked, c, g)) for asked in dict.fromkeys(_compressors(sweep)) if asked.match]


def _compressors(sweep: Sweep) -> Iterator[CompressorSettings]:
    """Every one that trials can have, of a searched range its ends."""
    group = f"{GRID_SIZE.rpartition('.')[0]}."
    values = {GRID_SIZE: sweep.grid_sizes()}
    values |= {key: found for key, found in sweep.file.grid.items() if key.startswith(group)}
    values |= {key: [*d.extremes()] for key, d in sweep.file.search.items() if key.startswith(group)}
    for point in itertools.product(*values.values()):
        given = {key.removeprefix(group): value for key, value in zip(values, point, strict=True)}
        asked = CompressorSettings.model_validate({**sweep.base.model.compressor.model_dump(), **given})
        if asked.kind != NESTED:
            asked = asked.model_copy(update={"grid_sizes": None})
        if (asked.blocks or asked.kind not in BLOCK_NEEDED) and asked.output_grid_size in asked.sizes:
            yield asked


def _names(base: Settings) -> int:
    """Checkpoints of a trial: latest, best and the last epochs'; equal ones lie on the disk once."""
    return min(base.training.keep_last_n, -(-base.training.epochs // base.training.checkpoint_every)) + 2


def _check(sweep: Sweep, paths: SweepPaths, pictures: Splits) -> tuple[bool, Sequence[Change]]:
    """Refuse whatever a start would refuse in its first minute; returns whether the tokens are there already, and what
    has changed since the sweep last began."""
    base = sweep.base
    check_access(base.experiment)
    say_store(base.experiment)
    check_cluster()
    if remote := ObjectStore.asked(base.store):
        remote.check()
    check_alone(paths)
    check_resources(sweep)
    check_trials_room(sweep, paths)
    check_files(base.encoder)
    store = store_folder(base, pictures)
    stored = is_complete(store)
    missing = [] if stored else unfinished(base, pictures, store)
    check_room(base, store, missing, smaller_sizes(sweep, store))
    if not stored:
        check_pictures(base.data, pictures)
    return stored, check_request(sweep, paths, store.name).changes


def check_resources(sweep: Sweep) -> None:
    """Raises RequestError where this machine has not what a trial and an evaluation ask for; says where GPUs count as
    0, and of a cluster to join, which a dry run does not join, that the start looks."""
    asked, address = sweep.file.resources, joined()
    if address:
        say(f"resources: whether the Ray cluster of {said(address)} has them is looked at when the sweep starts")
        return
    machine: dict[str, float] = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
    if asked.accelerator:
        from toconv.sweep.cluster import kind_here  # start-up: Ray, which a dry run needs for this alone

        having([machine | kind_here()], asked.accelerator)
    taken, _ = usable(asked, [machine])
    check_fits(sweep.file.evaluation, [machine])
    if taken.gpu != asked.gpu:
        console.print(without_gpu(asked.gpu))


def show_plan(sweep: Sweep, paths: SweepPaths) -> None:
    """Check, then print cells, trials, shapes, disk and time to expect."""
    base, file = sweep.base, sweep.file
    pictures = _pictures(base.data, paths)
    stored, changes = _check(sweep, paths, pictures)
    splits = {name: len(found) * base.data.crops for name, found in pictures.items()}
    cells = sweep.cells()
    trials = sweep.planned_trials()
    costs = {k: trial_cost(base, k, splits["train"]) for k in sweep.grid_sizes()}
    console.print(
        f"{file.name}: {trials} trials in {len(cells)} cell(s), sampler {file.sampler}, "
        f"{base.training.epochs} epochs each, into {paths.root}"
    )
    show_changes(changes)
    say_learnt(sweep, paths)
    of_splits = ", ".join(f"{n} {split}" for split, n in splits.items())
    console.print(f"{base.encoder.stated}; images: {of_splits}")
    console.print(_table(sweep, costs))
    for line in matched(sweep):
        console.print(line)
    refused = refusals(sweep.surveys)
    if refused:
        console.print(f"{refused}; what is drawn of them is drawn again")
    device, bf16 = resolve_device(base.hardware), mixed_precision(base.hardware)
    rate = gemm_rate(device, torch.bfloat16 if bf16 else torch.float32) * max(1, torch.cuda.device_count())
    steps = base.training.epochs * -(-splits["train"] // base.training.batch_size)
    mean_flops = sum(cost.step_flops for cost in costs.values()) / len(costs)
    seconds = trials * steps * mean_flops / rate * SLOWDOWN
    folder, images = _names(base) * max(cost.checkpoint_bytes for cost in costs.values()), sum(splits.values())
    smaller = size(estimated_bytes(base, images, sweep.grid_sizes()))
    console.print(
        f"disk: tokens {size(estimated_bytes(base, images))} in {base.store.dtype}"
        f" ({'already there' if stored else 'to be encoded first'}), "
        f"{f'those of smaller pictures {smaller}, ' if file.baselines else ''}"
        f"checkpoints at most {size(folder)} a trial, which only running trials and those on the "
        f"front keep: at most {size(trials * folder)} if all were"
    )
    console.print(
        f"time: about {duration(seconds)} of this machine for the trials, from their arithmetic and a "
        f"matrix product timed just now ({rate / 1e9:.0f} GFLOP/s)"
        + ("" if stored else "; encoding comes before it")
        + (f"; without what {AGREEMENT_WEIGHT} runs of the encoder" if _asks_for_agreement(sweep) else "")
    )
    if file.evaluation:
        console.print(_evaluation(sweep, file.evaluation, trials))


def _pictures(data: DataSettings, paths: SweepPaths) -> Splits:
    """Where the sweep has begun they must be those of its tokens, whatever time that takes."""
    quick = nullcontext() if paths.request.exists() else decoding_at_most(MOST_DECODED)
    with phase("listing and hashing pictures"), quick:
        return list_splits(data)


def _asks_for_agreement(sweep: Sweep) -> bool:
    return sweep.base.loss.agreement_weight > 0 or AGREEMENT_WEIGHT in {*sweep.file.grid, *sweep.file.search}


def say_learnt(sweep: Sweep, paths: SweepPaths) -> None:
    """What `learn_from` comes to. Raises RequestError where it names what cannot be learnt from."""
    if sweep.file.learn_from:
        from toconv.sweep.search.earlier import learn  # start-up: Optuna, which a dry run needs for this alone

        for line in learn(sweep, paths.root.parent).told:
            console.print(line)


def _evaluation(sweep: Sweep, asked: OwnMeasure, trials: int) -> str:
    """What the user's own evaluation is, and the time that it can take at most."""
    longest, seeds = 60 * asked.timeout_minutes, sweep.file.finalists.seeds if sweep.file.finalists else 0
    finalists = f"each finalist ({seeds} for each trial of the front)"
    who = f"each trial{f' and {finalists}' if seeds else ''}" if asked.on == "trials" else finalists
    whole = f", of the trials one after the other {duration(trials * longest)}" if asked.on == "trials" else ""
    return f"evaluation of {who}: {asked.asked}; at most {duration(longest)} each{whole}"


def _table(sweep: Sweep, costs: dict[int, Cost]) -> Table:
    table = Table(show_edge=False)
    for name in ("k", "tokens", "shapes", "parameters", "GFLOP a step"):
        table.add_column(name, justify="left" if name == "shapes" else "right")
    batch, n, c = sweep.base.training.batch_size, sweep.base.encoder.grid_size**2, sweep.base.encoder.width
    for k, cost in costs.items():
        shapes = f"({batch}, {n}, {c}) -> ({batch}, {k * k}, {c})"
        table.add_row(str(k), str(k * k), shapes, f"{cost.parameters:,}", f"{cost.step_flops / 1e9:.1f}")
    return table


def trial_cost(base: Settings, k: int, images: int) -> Cost:
    """Of a training on so many images, counted on the networks themselves, on the meta device."""
    trained = networks(base, k)
    return Cost(parameters(*trained), step_flops(base, trained, k, images), checkpoint_bytes(trained))


def networks(base: Settings, k: int) -> tuple[nn.Module, nn.Module, Critic]:
    """Compressor, decoder and critic of a trial, without memory."""
    g, c = base.encoder.grid_size, base.encoder.width
    with torch.device("meta"):
        asked = base.model.compressor
        sizes = tuple({*asked.sizes, k}) if asked.kind == NESTED else None
        sized = asked.model_copy(update={"output_grid_size": k, "grid_sizes": sizes})
        return *build_networks(sized, base.model.decoder, c, g), build_critic(c, base.model.critic)


def checkpoint_bytes(trained: tuple[nn.Module, ...]) -> int:
    """Weights and both moments of Adam, and what is fitted and held once, in fp32."""
    fitted = {id(buffer): buffer.numel() for network in trained for buffer in network.buffers()}
    return 4 * (3 * parameters(*trained) + sum(fitted.values()))


def gemm_rate(device: torch.device, dtype: torch.dtype, side: int = 1024, seconds: float = 0.2) -> float:
    """Floating-point operations a second of a square matrix product on this device."""
    a = torch.rand(side, side, device=device, dtype=torch.float32).to(dtype)
    torch.mm(a, a).sum().item()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        torch.mm(a, a)[0, 0].item()
        count += 1
    return 2 * side**3 * count / (time.perf_counter() - start)
