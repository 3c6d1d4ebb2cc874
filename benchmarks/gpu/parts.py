"""What is measured, the cheap and telling first, each with the seconds that it may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module

from benchmarks.gpu.lab import Lab, Row


@dataclass(frozen=True)
class Part:
    name: str
    title: str
    says: str  # what stands against what
    measured_by: str  # module and function
    seconds: float

    def rows(self, lab: Lab) -> Iterator[Row]:
        module, _, function = self.measured_by.partition(":")
        measure: Callable[[Lab], Iterator[Row]] = getattr(import_module(f"benchmarks.gpu.{module}"), function)
        return measure(lab)


SHARE = "share is the products' time over the step's"
PARTS = (
    Part("card", "The card", "what it is, and its rates in this run", "card:measure", 20),
    Part(
        "launches",
        "Launches and host waits",
        "kernels of a step at the goals' size, those that take most, and where the host waits for the card",
        "launches:measure",
        30,
    ),
    Part(
        "step",
        "The training step against its matrix products",
        f"operations launched singly, at CLIP ViT-L/14's shape; the products alone run in the same types; {SHARE}",
        "step:measure",
        80,
    ),
    Part(
        "graph", "The step as one CUDA graph", f"critic steps, penalty and generator step; {SHARE}", "faster:graph", 40
    ),
    Part("naive", "The naive step", "the same networks as a first implementation steps them", "naive:measure", 30),
    Part(
        "encoder",
        "An encoder of ViT-L/14's shape",
        "random weights, bf16; products as in the step",
        "encoder:measure",
        60,
    ),
    Part(
        "reading",
        "Token reading",
        "what it adds to a step in bf16, launched singly; share_of_step is that share",
        "reading:measure",
        80,
    ),
    Part(
        "compiled",
        "The step compiled",
        f"hardware.compile=true, and torch.compile's mode that records CUDA graphs; {SHARE}",
        "faster:compiled",
        90,
    ),
    Part("resumed", "Going on from a checkpoint", "two epochs; one, a checkpoint and one", "keeping:resumed", 25),
    Part("checkpoint", "A checkpoint against a step", "written with its checksum and synced", "keeping:time_of", 20),
    Part(
        "losses",
        "How far losses part",
        "from those on the CPU in fp32, step by step, the largest difference as a share",
        "curves:measure",
        70,
    ),
    Part(
        "processes",
        "Small trainings side by side",
        "at ViT-S/14's shape and batch 16, each in a process of its own: what `gpu: 0.25` is worth",
        "together:processes",
        80,
    ),
    Part("stacked", "Small trainings stacked", "the same in one process by torch.func.vmap", "together:stacked", 45),
)
