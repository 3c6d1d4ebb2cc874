"""Which precision `auto` is."""

import pytest
import torch

from toconv.hardware import bf16_is_fast

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "fast"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC 9B14", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD EPYC 7B13", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "aarch64"}, False),
    ],
)
def test_auto_is_bf16_where_a_cpus_bf16_products_are_faster_than_its_fp32_ones(capabilities, fast, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert bf16_is_fast(CPU) is fast


def test_auto_is_bf16_on_cuda_whatever_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert bf16_is_fast(torch.device("cuda", 0)) is True


def test_what_torch_says_of_this_cpu_has_the_names_that_are_asked_for():
    assert {"cpu_name", "architecture"} <= set(torch.cpu.get_capabilities())
    if torch.cpu.get_capabilities()["architecture"] == "x86_64":
        assert {"avx512_bf16", "amx_bf16"} <= set(torch.cpu.get_capabilities())
