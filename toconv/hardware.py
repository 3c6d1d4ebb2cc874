"""The device that a training runs on. Never falls back from what was asked for."""

import ctypes
import importlib.util
import os
import shutil
import sys
from typing import NamedTuple

import torch

from toconv.errors import RequestError
from toconv.settings import NESTED, HardwareSettings, Settings

COMPILED_FROM = (7, 0)  # CUDA capability that torch.compile's kernels, which Triton makes, begin with
COMPILED_STEPS = 10_000  # from which a minute of compiling is less than a tenth of the time; estimated, not measured
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


class Choice(NamedTuple):
    """What a setting comes to on this machine, and why."""

    taken: bool
    why: str


def compile_choice(settings: Settings, device: torch.device, steps: int) -> Choice:
    """Whether compressor and decoder of a training of so many steps are compiled."""
    asked = settings.hardware.compile
    if asked != "auto":
        return Choice(asked, "asked for")
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    has_triton = importlib.util.find_spec("triton") is not None
    return auto_compile(capability, has_triton, has_c_compiler(), settings.model.compressor.kind, steps)


def has_c_compiler() -> bool:
    """Whether Triton finds what it builds the launcher of each kernel with: what CC names, or else gcc or clang."""
    names = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return any(map(shutil.which, names))


def auto_compile(
    capability: tuple[int, int] | None, has_triton: bool, has_compiler: bool, kind: str, steps: int
) -> Choice:
    """What `hardware.compile=auto` is, by a table: on a CPU (capability None) steps were measured to become slower
    (docs/log.md, 2026-11-26); no GPU was measured."""
    reasons = {
        "steps become slower on a CPU": capability is None,
        f"Triton needs CUDA capability {_version(COMPILED_FROM)}": capability is not None
        and capability < COMPILED_FROM,
        "the package triton is not there": not has_triton,
        "no C compiler is there, which Triton needs (gcc, clang or CC)": not has_compiler,
        f"kind={NESTED} draws its k in each step": kind == NESTED,
        f"{steps} steps are too few, below {COMPILED_STEPS}": steps < COMPILED_STEPS,
    }
    against = next((reason for reason, holds in reasons.items() if holds), None)
    return Choice(against is None, against or f"CUDA capability {_version(capability or COMPILED_FROM)}")


def graph_choice(settings: Settings, device: torch.device) -> Choice:
    """Whether a training's steps are captured as one CUDA graph. Raises RequestError where there is no CUDA."""
    if not settings.hardware.cuda_graph:
        return Choice(False, "not asked for")
    if device.type != "cuda":
        raise RequestError("hardware.cuda_graph=true: needs a CUDA device, and this training runs on the CPU")
    return Choice(True, "asked for")


def _version(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


def set_tf32(hardware: HardwareSettings) -> None:
    """For this process. torch's own default is TF32 for convolutions and fp32 for products."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = hardware.tf32


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
