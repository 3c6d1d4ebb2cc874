"""An encoder with a text tower, for what needs one."""

import json

import pytest
import torch

from toconv import config


@pytest.fixture
def with_text(tiny, tmp_path):
    """A tiny CLIP whose text tower has CLIP's own vocabulary."""
    import open_clip

    tower = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}
    model = {**json.loads(open(tiny["encoder.architecture"]).read()), "text_cfg": tower}
    architecture, weights = tmp_path / "toconv_tiny_text.json", tmp_path / "tiny_text.pt"
    architecture.write_text(json.dumps(model))
    open_clip.add_model_config(architecture)
    torch.manual_seed(1)
    state = open_clip.create_model("toconv_tiny_text").state_dict()
    for name, value in state.items():
        if ".attn." in name:  # tokens count: else the class token alone decides, and every compressor agrees
            value.mul_(20)
    torch.save(state, weights)
    return config.compose({**tiny, "encoder.architecture": str(architecture), "encoder.weights": str(weights)})
