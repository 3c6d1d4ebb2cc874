"""The device that a training runs on. Never falls back from what was asked for."""

import ctypes
import os
import sys

import torch

from toconv.errors import RequestError
from toconv.settings import HardwareSettings

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 2**31 - 1


def resolve_device(hardware: HardwareSettings) -> torch.device:
    """`auto` is CUDA where there is one. Raises RequestError where the device asked for is not there."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if hardware.device == "cpu" or (hardware.device == "auto" and count == 0):
        return torch.device("cpu")
    if hardware.cuda_device >= count:
        raise RequestError(
            f"hardware.cuda_device={hardware.cuda_device}: this machine has {count} CUDA device(s); "
            "choose one of them or hardware.device=cpu"
        )
    return torch.device("cuda", hardware.cuda_device)


def bf16_is_fast(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32: on CUDA, on a CPU with AMX, and on one with AVX512-BF16 that is not Intel's.
    Measured on one processor of each, two cores: Intel's, without AMX, multiplies matrices in bf16 at 0.6 of fp32's
    rate (a ViT-S/14 220 ms an image against 150 ms); AMD's takes 64 ms against 135 ms. A rule and no timing, since the
    answer is part of what a trial is, and must be the same at each start."""
    if device.type == "cuda":
        return True
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("amx_bf16") or (cpu.get("avx512_bf16") and "Intel" not in cpu.get("cpu_name", "")))


def mixed_precision(hardware: HardwareSettings) -> bool:
    """Whether compressor and decoder run in bf16; `auto` is where that is faster."""
    if hardware.mixed_precision == "auto":
        return bf16_is_fast(resolve_device(hardware))
    return hardware.mixed_precision


def limit_threads(hardware: HardwareSettings, given: int | None = None) -> None:
    """Use `hardware.threads` CPU threads, or those `given` by the scheduler, or torch's default."""
    threads = hardware.threads or given
    if threads:
        torch.set_num_threads(threads)


def keep_freed_memory() -> None:
    """Tell glibc to keep what a batch's tensors free for the next batch, which otherwise page-faults over it anew
    (mallopt(3)). Elsewhere, and with another allocator, nothing happens."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt"):
        for option, value in ((M_MMAP_THRESHOLD, LARGEST), (M_TRIM_THRESHOLD, LARGEST)):
            ctypes.CDLL(None).mallopt(option, value)


def memory_of(device: torch.device) -> int:
    """Bytes that there are in all: of a GPU, or of the machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"
