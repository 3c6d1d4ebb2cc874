"""What the card is, and its rates: of matrix products, of memory, of launches."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator

import torch

from benchmarks.gpu.lab import Lab, Row
from benchmarks.gpu.timing import GIGABYTE, tf32
from toconv.hardware import describe

CARD, POWER_LIMIT, TORCH = "card", "power limit", "torch"  # what the page begins with
COPIED = 2**30  # bytes
ASKED = ("power.limit", "power.max_limit", "driver_version", "clocks.max.sm", "mig.mode.current")  # of nvidia-smi


def measure(lab: Lab) -> Iterator[Row]:
    yield {"what": CARD, "value": describe(lab.device)}
    smi = nvidia_smi() if lab.is_gpu else {}
    yield {"what": POWER_LIMIT, "value": smi.get("power.limit", "not known")}
    yield {"what": TORCH, "value": f"{torch.__version__}, Python {platform.python_version()}"}
    yield {"what": "CPU cores", "value": len(os.sched_getaffinity(0))}
    if lab.is_gpu:
        properties = torch.cuda.get_device_properties(lab.device)
        yield {"what": "capability", "value": f"{properties.major}.{properties.minor}"}
        yield {"what": "multiprocessors", "value": properties.multi_processor_count}
        yield {"what": "memory, GB", "value": round(properties.total_memory / GIGABYTE, 1)}
        yield from ({"what": name, "value": value} for name, value in smi.items() if name != "power.limit")
    yield from rates(lab)


def rates(lab: Lab) -> Iterator[Row]:
    side, device = lab.scale.matrix_side, lab.device
    for name, dtype, allowed in (
        ("bf16", torch.bfloat16, False),
        ("tf32", torch.float32, True),
        ("fp32", torch.float32, False),
    ):
        a, b, out = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(3))
        with tf32(allowed):
            each = lab.milliseconds(lambda: torch.mm(a, b, out=out))
        yield {"what": f"products of {side}×{side} matrices, {name}, TFLOP/s", "value": round(2e-9 * side**3 / each, 3)}
    size = COPIED if lab.is_gpu else 2**20
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    each = lab.milliseconds(lambda: target.copy_(source))
    yield {"what": "memory, read and written, GB/s", "value": round(2 * size / each / 1e6, 1)}
    one = torch.zeros(1, device=device)
    each = lab.milliseconds(lambda: [one.add_(1) for _ in range(1000)])
    yield {"what": "one small operation, µs", "value": round(each, 2)}


def nvidia_smi() -> dict[str, str]:
    """What nvidia-smi says of the first card; nothing where it is not there."""
    program = shutil.which("nvidia-smi")
    if not program:
        return {}
    command = [program, f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(ASKED, values, strict=True)) if len(values) == len(ASKED) else {}
