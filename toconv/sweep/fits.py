"""How much of what a sweep asks for the machines of a cluster hold at once: CPU and GPU of each, as Ray counts them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from toconv.errors import RequestError

if TYPE_CHECKING:  # a worker imports this module too, and needs no request
    from toconv.sweep.own_measure import OwnMeasure
    from toconv.sweep.schema import Resources

Machines = Sequence[Mapping[str, float]]  # CPU and GPU of each
KIND = "accelerator_type:"


def usable(asked: Resources, machines: Machines) -> tuple[Resources, int]:
    """A trial's resources on this cluster and how many trials its machines hold at once. Where there is no GPU, gpu
    counts as 0. Raises RequestError where not one trial fits."""
    gpu = asked.gpu if has_gpus(machines) else 0.0
    slots = sum(_held(asked.cpu, gpu, machine) for machine in machines)
    if slots < 1:
        raise RequestError(f"resources: a trial asks for cpu={asked.cpu}, gpu={asked.gpu}; {_said(machines)}")
    return asked.model_copy(update={"gpu": gpu}), slots


def having(machines: Machines, accelerator: str | None) -> Machines:
    """Those that have such GPUs, or all. Raises RequestError where none has."""
    found = [machine for machine in machines if accelerator is None or kind_of(accelerator) in machine]
    if accelerator and not found:
        kinds = sorted({name.removeprefix(KIND) for has in machines for name in has if name.startswith(KIND)})
        meant = [kind for kind in kinds if kind.lower() == accelerator.lower()]
        there = f"has {', '.join(kinds)}" if kinds else "has none that Ray has a name for"
        hint = f"; did you mean {meant[0]}?" if meant else ""
        raise RequestError(f"resources.accelerator={accelerator}: the cluster {there}{hint}")
    return found


def kind_of(accelerator: str) -> str:
    """Ray's resource of which each machine with it has 1."""
    return f"{KIND}{accelerator}"


def without_gpu(asked: float) -> str:
    """What is said where trials ask for GPUs and none is there."""
    return f"no GPU on this machine: gpu: {asked:g} counts as 0; trials run on the CPU"


def has_gpus(machines: Machines) -> bool:
    return any(machine.get("GPU", 0) for machine in machines)


def _held(cpu: float, gpu: float, machine: Mapping[str, float]) -> int:
    """How many that ask for this a machine holds: each lies on one machine, and on one GPU where it asks for a part."""
    by_cpu = _times(cpu, machine.get("CPU", 0))
    if not gpu:
        return by_cpu
    gpus = machine.get("GPU", 0)
    return min(by_cpu, math.floor(gpus) * _times(gpu, 1) if gpu < 1 else _times(gpu, gpus))


def _times(part: float, whole: float) -> int:
    """How often it fits; 0.1 fits into 1 ten times. Ray counts in ten thousandths."""
    return round(1e4 * whole) // max(1, round(1e4 * part))


def _said(machines: Machines) -> str:
    if len(machines) == 1:
        return f"the cluster has cpu={machines[0].get('CPU', 0):g}, gpu={machines[0].get('GPU', 0):g}"
    most = Counter(f"cpu={machine.get('CPU', 0):g}, gpu={machine.get('GPU', 0):g}" for machine in machines)
    each = "; ".join(f"{count} with {has}" for has, count in most.most_common())
    return f"no machine of the cluster has that ({each or 'none is there'})"


def check_fits(asked: OwnMeasure | None, machines: Machines) -> None:
    """Raises RequestError where no machine ever has what an evaluation asks for. Where there is no GPU, gpu counts as
    0."""
    if asked is None:
        return
    gpu = asked.gpu if has_gpus(machines) else 0.0
    if not any(_held(1.0, gpu, machine) for machine in machines):
        raise RequestError(
            f"evaluation.gpu={asked.gpu:g}: an evaluation asks for that and for cpu=1; {_said(machines)}"
        )
