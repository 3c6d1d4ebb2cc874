"""Which device, which precision and whether compiled `auto` is."""

import pytest
import torch

from benchmarks.gpu.timing import tf32
from toconv import config
from toconv.errors import RequestError
from toconv.hardware import (
    COMPILED_STEPS,
    auto_compile,
    bf16_is_fast,
    compile_choice,
    has_c_compiler,
    resolve_device,
    set_tf32,
)

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


@pytest.fixture
def with_gpus(monkeypatch):
    """A machine on which CUDA sees so many."""

    def see(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    return see


def resolved(**hardware):
    return resolve_device(config.compose({f"hardware.{key}": value for key, value in hardware.items()}).hardware)


@pytest.mark.parametrize(
    ("gpus", "asked", "device"),
    [
        (0, {}, "cpu"),
        (0, {"cuda_device": 3}, "cpu"),
        (1, {}, "cuda:0"),
        (2, {"cuda_device": 1}, "cuda:1"),
        (2, {"device": "cuda"}, "cuda:0"),
        (2, {"device": "cpu", "cuda_device": 5}, "cpu"),
    ],
)
def test_the_device_is_the_one_that_is_asked_for(with_gpus, gpus, asked, device):
    with_gpus(gpus)
    assert resolved(**asked) == torch.device(device)


@pytest.mark.parametrize(("gpus", "asked"), [(0, {"device": "cuda"}), (1, {"cuda_device": 1}), (2, {"cuda_device": 2})])
def test_a_device_that_is_not_there_is_refused_and_no_other_one_taken(with_gpus, gpus, asked):
    with_gpus(gpus)
    number = asked.get("cuda_device", 0)
    with pytest.raises(RequestError, match=f"hardware.cuda_device={number}: this machine has {gpus} CUDA"):
        resolved(**asked)


@pytest.mark.parametrize(
    ("capability", "has_triton", "has_compiler", "kind", "steps", "compiled", "why"),
    [
        (None, True, True, "conv", COMPILED_STEPS, False, "CPU"),
        ((6, 1), True, True, "conv", COMPILED_STEPS, False, "needs CUDA capability 7.0"),
        ((7, 0), True, True, "conv", COMPILED_STEPS, True, "CUDA capability 7.0"),
        ((9, 0), True, True, "conv", COMPILED_STEPS, True, "CUDA capability 9.0"),
        ((9, 0), False, True, "conv", COMPILED_STEPS, False, "triton is not there"),
        ((9, 0), True, False, "conv", COMPILED_STEPS, False, "no C compiler is there"),
        ((9, 0), True, True, "nested", COMPILED_STEPS, False, "kind=nested"),
        ((9, 0), True, True, "conv", COMPILED_STEPS - 1, False, f"{COMPILED_STEPS - 1} steps are too few"),
    ],
)
def test_auto_compiles_where_it_can_and_pays(capability, has_triton, has_compiler, kind, steps, compiled, why):
    found = auto_compile(capability, has_triton, has_compiler, kind, steps)
    assert found.taken is compiled and why in found.why


@pytest.mark.parametrize(
    ("names", "cc", "found"),
    [([], None, False), (["cc"], None, False), (["gcc"], None, True), (["tcc"], "tcc", True), (["gcc"], "tcc", False)],
)
def test_a_c_compiler_is_found_where_triton_finds_one(names, cc, found, monkeypatch, tmp_path):
    for name in names:
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    if cc:
        monkeypatch.setenv("CC", cc)
    assert has_c_compiler() is found


@pytest.mark.parametrize("asked", [True, False])
def test_what_is_asked_for_is_not_decided_anew(asked):
    settings = config.compose({"hardware.compile": asked, "hardware.device": "cpu"})
    assert compile_choice(settings, CPU, 1) == (asked, "asked for")


def test_tf32_is_one_setting_for_products_and_convolutions():
    with tf32(False):  # which puts back what was
        for allowed in (True, False):
            set_tf32(config.compose({"hardware.tf32": allowed}).hardware)
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
