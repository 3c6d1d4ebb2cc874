"""The device that a training runs on. Never falls back from what was asked for."""

from __future__ import annotations

import torch

from toconv.errors import RequestError
from toconv.settings import HardwareSettings


def resolve_device(hardware: HardwareSettings) -> torch.device:
    """`auto` is CUDA where there is one. Raises RequestError where the device asked for is not there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if hardware.device == "cpu" or (hardware.device == "auto" and count == 0):
        return torch.device("cpu")
    if hardware.cuda_device >= count:
        raise RequestError(
            f"hardware.cuda_device={hardware.cuda_device}: this machine has {count} CUDA device(s); "
            "choose one of them or hardware.device=cpu")
    return torch.device("cuda", hardware.cuda_device)


def limit_threads(hardware: HardwareSettings, given: int | None = None) -> None:
    """Use `hardware.threads` CPU threads, or those `given` by the scheduler, or torch's default."""
    threads = hardware.threads or given
    if threads:
        torch.set_num_threads(threads)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
