"""What compressed tokens save a language model: its prefill at 576 image tokens against fewer and the compressor."""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.comparison import Ratio, Work, in_turns, median_and_spread, ratio_of, show
from toconv.config import compose
from toconv.models.compressor import Compressor

SIDE, SIZES, TEXT = 24, (12, 8, 6), 64  # tokens of a side, k, and tokens of the prompt beside an image
WIDTH, LAYERS, HEADS = 1024, 8, 16  # a language model of 100 million numbers, as wide as CLIP ViT-L's tokens
MEGABYTE = 2**20


def measure(rounds: int = 5) -> list[Ratio]:
    torch.manual_seed(0)
    model = language_model()
    image_1NC, prompt_1TC = torch.randn(1, SIDE**2, WIDTH), torch.randn(1, TEXT, WIDTH)
    settings = compose({}).model.compressor
    compressors = {
        k: Compressor(WIDTH, SIDE, settings.model_copy(update={"output_grid_size": k})).eval() for k in SIZES
    }

    def prefill(tokens_1MC: torch.Tensor) -> int:
        """Returns the bytes of its key-value cache."""
        cache = model(inputs_embeds=torch.cat([tokens_1MC, prompt_1TC], 1), use_cache=True, logits_to_keep=1).cache
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)

    with torch.inference_mode():
        works = [
            lambda: prefill(image_1NC),
            *(lambda c=c: prefill(c(image_1NC)) for c in compressors.values()),
            *(lambda c=c: c(image_1NC) for c in compressors.values()),
        ]
        times = in_turns(*works, rounds=rounds)
        caches = [prefill(image_1NC), *(prefill(image_1NC[:, : k * k]) for k in SIZES)]
        peaks = [peak(lambda n=n: prefill(image_1NC[:, :n])) for n in (SIDE**2, *(k * k for k in SIZES))]
    whole, shorter, alone = times[0], times[1 : 1 + len(SIZES)], times[1 + len(SIZES) :]
    return [
        ratio_of(
            f"prefill with {k * k} image tokens, compressor included, against {SIDE**2}",
            ours,
            whole,
            1.0,
            f"a Llama-shaped model of {sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, {TEXT} "
            "text tokens, "
            f"fp32: {milliseconds(ours)} against {milliseconds(whole)}, of which the compressor {milliseconds(own)}; "
            f"key-value cache {cache / MEGABYTE:.1f} against {caches[0] / MEGABYTE:.1f} MB; memory that a prefill "
            "takes on top "
            f"of the model {held / MEGABYTE:.0f} against {peaks[0] / MEGABYTE:.0f} MB",
            f"the {TEXT} text tokens, which stay",
            False,
        )
        for k, ours, own, cache, held in zip(SIZES, shorter, alone, caches[1:], peaks[1:], strict=True)
    ]


def language_model() -> LlamaForCausalLM:
    """With random weights."""
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=WIDTH,
        intermediate_size=2816,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
    )
    return LlamaForCausalLM(config).eval()


def milliseconds(times: list[float]) -> str:
    return f"{median_and_spread(times)[0] * 1e3:.0f} ms"


def peak(work: Work) -> int:
    """Bytes by which `work` raises the resident memory of this process at most (proc(5), clear_refs and VmHWM)."""
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)  # glibc gives back what earlier work left it
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work()
    return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    show(measure())
