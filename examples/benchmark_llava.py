"""A trained LLaVA with an exported compressor on the benchmarks of lmms-eval, as an evaluation of a sweep:

    evaluation:
      command: python examples/benchmark_llava.py {export} {output} llava-hf/llava-1.5-7b-hf pope
      metric: pope_accuracy
      on: finalists
      gpu: 1
      timeout_minutes: 240

NOT RUN by us: we had neither the models nor the data sets nor a GPU, and lmms-eval changes. What is ours in it,
`compress_llava`, saving a compressed model and reading it again, is tested (tests/integrations/test_llava.py); what is
lmms-eval's follows its documentation: `simple_evaluate` and the keys `METRIC,FILTER` of its results. The encoder of the
sweep must be the model's own (CLIP ViT-L/14 at 336 px, layer -2): encoder=clip_vit_l_14_336.

Needs: pip install "toconv[llava]" lmms-eval"""

import json
import sys
import tempfile
from pathlib import Path

from transformers import LlavaForConditionalGeneration, LlavaProcessor

import toconv
from toconv.integrations.llava import compress_llava  # makes the compressed tower known to transformers, too


def main(export: str, output: str, name: str, *tasks: str) -> None:
    from lmms_eval.evaluator import simple_evaluate  # optional: installed by whoever runs this

    model, processor = LlavaForConditionalGeneration.from_pretrained(name), LlavaProcessor.from_pretrained(name)
    compress_llava(model, processor, toconv.load(export))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        del model
        found = simple_evaluate(model="llava_hf", model_args=f"pretrained={folder}", tasks=list(tasks), batch_size=1)
    Path(output).write_text(json.dumps(numbers(found["results"])))


def numbers(results: dict[str, dict[str, object]]) -> dict[str, float]:
    """`{"pope": {"pope_accuracy,none": 0.86, "alias": "pope"}}` → `{"pope_accuracy": 0.86}`"""
    found = {}
    for task, values in results.items():
        for key, value in values.items():
            metric = key.partition(",")[0]
            if isinstance(value, int | float) and not isinstance(value, bool) and "stderr" not in metric:
                found[metric if metric.startswith(task) else f"{task}_{metric}"] = float(value)
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
