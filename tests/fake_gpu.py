"""A training on a GPU that is not there: torch's fake tensors have its device and no numbers. Where tensors of two
devices meet, or a number is read, they raise as CUDA would raise or wait.

The device is called `lazy`: of all that are not there it is one of two whose backward passes autograd runs without a
driver, and the other one, `meta`, has no fake tensors. It has no autocast: networks run in fp32."""

import sys
from collections import Counter
from contextlib import contextmanager, nullcontext
from copy import deepcopy

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("lazy", 0)
WAITS = {  # operators whose result has a shape or is a number that the host must know
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2", "unique_dim"),
    *("repeat_interleave", "bincount", "item"),
}


class Generator(torch.Generator):
    """Draws on the host, says that it draws on the GPU: fake tensors need no numbers."""

    def __new__(cls, device="cpu"):
        return super().__new__(cls)

    def __init__(self, device="cpu"):
        self.drawn_on = torch.device(device)

    @property
    def device(self):
        return self.drawn_on


class Crossings(TorchDispatchMode):
    """Counts the operators by which the host waits for the GPU (`waits`), or sends tensors there (`sent`)."""

    def __init__(self):
        super().__init__()
        self.waits, self.sent, self.operators = Counter(), Counter(), 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.operators += 1
        given = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.dim()}
        given |= {GPU.type} if name in WAITS else set()
        to = {t.device.type for t in tree_leaves(out) if isinstance(t, torch.Tensor)}
        if name in WAITS or (GPU.type in given and to == {"cpu"}):
            self.waits[name] += 1
        elif "cpu" in given and to == {GPU.type}:
            self.sent[name] += 1
        return out


@contextmanager
def on_fake_gpu(training, monkeypatch):
    """The training, made on the CPU, with all that it holds as fake tensors of a GPU; what lies with its images stays
    on the host. A module cannot be moved to fake tensors, so its parameters are replaced."""
    fused = sys.modules["torch.optim.optimizer"]  # torch.optim's name `optimizer` is another
    monkeypatch.setattr(fused, "_get_fused_kernels_supported_devices", lambda: [GPU.type])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    for k in training.sizes:
        training.starts.at(torch.arange(1), k)  # computed once a training, from images on the host
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def moved(tensor):
            return mode.from_tensor(tensor.detach()).to(GPU)

        def move(network):
            for module in network.modules():
                for name, parameter in module._parameters.items():
                    if parameter is not None:
                        module._parameters[name] = torch.nn.Parameter(moved(parameter), parameter.requires_grad)
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = moved(buffer)

        for network in (training.compressor, training.decoder, training.critic):
            move(network)
        for k, coverage_N in training.coverage_N.items():
            training.coverage_N[k] = moved(coverage_N)
        for k, known_IMC in training.starts._known.items():
            training.starts._known[k] = moved(known_IMC)
        agreement = training.agreement
        if agreement:
            agreement._tail = deepcopy(agreement._tail)  # which the next training of this process has too
            move(agreement._tail)
            agreement._mean_C, agreement._std_C = moved(agreement._mean_C), moved(agreement._std_C)
        training.device, training.draws = GPU, Generator(GPU)
        training._make_optimizers()
        yield training
