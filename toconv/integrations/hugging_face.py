"""What of Hugging Face's transformers is used. The only module that knows it."""

import warnings
from pathlib import Path
from typing import Any

from toconv.errors import EncoderError, RequestError, told
from toconv.export.module import EncoderFacts

try:
    import transformers
    from transformers.configuration_utils import SubConfigSpec
    from transformers.modeling_outputs import BaseModelOutputWithPooling
except ImportError as error:
    raise RequestError(
        f'toconv.integrations.llava needs transformers, which is not there ({error}); run: pip install "toconv[llava]"'
    ) from error

__all__ = ["BaseModelOutputWithPooling", "SubConfigSpec", "clip_image_processor", "load_clip", "transformers"]


def load_clip(name: str, device_map: Any) -> transformers.CLIPVisionModel:
    """CLIPVisionModel.from_pretrained of a folder, or of a repository of the hub, `name` or `name@commit`; without a
    commit, that the weights are unknown is a warning. Raises EncoderError where there is none of that name."""
    repository, _, commit = (name, "", "") if Path(name).is_dir() else name.partition("@")
    if not commit and not Path(name).is_dir():
        warnings.warn(
            f"{name}: the weights are whatever the hub sends; {name}@COMMIT names them for ever", stacklevel=2
        )
    try:
        return transformers.CLIPVisionModel.from_pretrained(
            repository, device_map=device_map, revision=commit or "main"
        )
    except (OSError, ValueError) as error:
        why = f"{type(error).__name__}: {told(error)}"
        raise EncoderError(f"{name}: no CLIP vision model that transformers can load ({why})") from error


def clip_image_processor(facts: EncoderFacts) -> transformers.CLIPImageProcessor:
    """The encoder's preprocessing as transformers' own class."""
    side = facts.image_size
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=list(facts.mean),
        image_std=list(facts.std),
    )
