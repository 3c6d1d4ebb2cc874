"""What this machine does, against /proc and MLflow's own names."""

import time
from pathlib import Path

import pytest

from toconv.machine import EpochMeter, read_means, sample


def memory():
    """What the kernel says: bytes in use, and all that there are."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    kernel = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return kernel["MemTotal"] - kernel["MemAvailable"], kernel["MemTotal"]


def test_memory_in_use_is_what_the_kernel_says():
    sample()  # imports what it asks
    for _ in range(1000):
        (before, total), found, (after, _) = memory(), sample(), memory()
        if abs(after - before) < total / 1000:  # other tests took and gave back little meanwhile
            break
    assert found["system_memory_usage_megabytes"] == pytest.approx(after / 1e6, abs=500)
    assert found["system_memory_usage_percentage"] == pytest.approx(100 * after / total, abs=3)


def test_names_are_those_of_mlflows_own_system_metrics():
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor

    monitor = CPUMonitor()
    monitor.collect_metrics()
    assert set(monitor.aggregate_metrics()) == {name for name in sample() if not name.startswith("gpu_")}


def test_a_busy_epoch_shows_and_each_epoch_has_a_line_of_its_own(tmp_path):
    with EpochMeter(tmp_path / "machine.jsonl") as meter:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            pass
        meter.note(1)
        meter.note(2)
    means = read_means(tmp_path / "machine.jsonl")
    assert list(means) == [1, 2]
    assert 0 < means[1]["system/cpu_utilization_percentage"] <= 100
