"""What a GPU makes of toconv, `python -m benchmarks gpu`. Needs torch, numpy, pydantic and safetensors alone."""
